//! Exchanges: where they are, what to ask them, what they answer. One file per exchange, its parser a pure function.

pub mod binance;
pub mod channel;
pub mod link;
pub mod roots;

use crate::config::{Endpoint, Source};

/// Where prices of `source` come from, if no other place is named.
pub fn endpoint(source: &Source) -> Option<Endpoint> {
    let url = match source.exchange() {
        "binance" => binance::ENDPOINT,
        _ => return None,
    };
    Some(Endpoint::parse(url).expect("the built-in addresses are well formed"))
}
