//! The part of Binance's WS-API that collectors and tests use: requests and the answers to them.

pub mod answer;
pub mod request;
