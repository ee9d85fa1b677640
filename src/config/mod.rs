//! Raw text to validated configuration and back, PURE: keys to the `Catalog` (`CatalogBuilder`), files and the API's
//! bodies to a `Document` (`parse_catalog`), documents to keys and the difference between them (`document`, `diff`).
//! Reading keys and files, and the clock, are left to others; so is what follows from a catalog.

mod assemble;
pub mod builder;
pub mod check;
pub mod diff;
pub mod document;
pub mod endpoint;
pub mod faults;
pub mod file;
mod intake;
pub mod last_good;
pub mod placement;
pub mod problem;
pub mod redact;
mod references;
pub mod removal;
mod resolve;
mod route;
pub mod schema;
pub mod shapes;
pub mod slots;
pub mod values;
pub mod words;

pub use builder::{CatalogBuilder, RawEvent, Settings};
pub use endpoint::{Gateway, GatewayError};
pub use file::{FileFault, parse_catalog};
pub use last_good::LastGood;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
