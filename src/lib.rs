//! rsoracle: a distributed price oracle that can be audited in an afternoon.
//!
//! The modules stand in layers, lowest first, one group of lines per layer. A module uses modules of lower layers, and of
//! its own without going round in a circle; layers 0 to 2 do no input or output and read no clock. `tests/tidy.rs`
//! enforces both.

pub mod json;
pub mod limits;
pub mod price;
pub mod reason;

pub mod aggregate;
pub mod args;
pub mod clock;
pub mod commands;
pub mod frame;
pub mod manual;
pub mod proxy;
pub mod source;
pub mod tolerance;
pub mod toml;

pub mod config;
pub mod error;
pub mod publish;
pub mod report;
pub mod roster;
pub mod round;
pub mod sampler;
pub mod seal;
pub mod terms;
pub mod voices;

pub mod child;
pub mod exchange;
pub mod file;
pub mod journal;
pub mod keyfile;
pub mod log;
pub mod net;
pub mod random;
pub mod resolve;
pub mod screen;
pub mod wait;

pub mod aggregator;
pub mod collector;
pub mod doctor;
pub mod embedded;
pub mod history;
pub mod keys;
pub mod verify;
