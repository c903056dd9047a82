//! Binance's WS-API, as far as collectors and tests ask it: the requests, and the answers to them.

pub mod answer;
pub mod request;
