//! `rsoracle verify` without the rest of rsoracle: checks reports from files or standard input, offline.
//!
//! The check itself is `rsoracle-proof`; here is what surrounds it: files, lines, words for people, exit codes. The program
//! `rsoracle-verify` and the command `rsoracle verify` are both [`run`].
//!
//! Uses: proof. Used by: every other room, for errors, words on standard error, and files.

mod command;
pub mod duration;
pub mod error;
pub mod files;
pub mod lines;
pub mod log;
mod settings;

pub use command::run;
pub use settings::Settings;
