//! Verifies reports from files or standard input, offline: the program `rsoracle-verify` and the command `rsoracle verify`.
//!
//! The verification itself is in `rsoracle-proof`. This crate adds files, lines, messages and exit codes. Both programs call
//! [`run`].
//!
//! Uses: proof. Used by: every other room, for errors, words on standard error, and files.

mod command;
pub mod error;
pub mod files;
mod inspection;
pub mod lines;
pub mod log;
pub mod pool;
mod processes;
pub mod segments;
mod settings;

pub use command::run;
pub use command::succession;
pub use inspection::print;
pub use settings::Settings;
