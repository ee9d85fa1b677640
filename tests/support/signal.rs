//! Signals to processes that a test has started, by their id; a bare machine has no `kill` command.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

pub fn send(child: &Child, name: &str) {
    let signal = match name {
        "TERM" => Signal::TERM,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        "KILL" => Signal::KILL,
        "INT" => Signal::INT,
        other => panic!("{other} is no signal that tests send"),
    };
    kill_process(Pid::from_child(child), signal).expect("the process lives");
}
