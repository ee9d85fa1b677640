//! The binary: an allocator, the arguments, an exit code. Everything else is `bellwether::cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(bellwether::cli::run(std::env::args_os()))
}
