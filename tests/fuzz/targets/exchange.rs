//! Messages of exchanges, to a client of two symbols: the first byte selects the dialect. Every price that is read is valid and of
//! one of the symbols, and no truncated message has one.
#![no_main]

use rsoracle::exchange::{DIALECTS, Said, Topics};
use rsoracle_proof::price::is_price;
use rsoracle::source::KINDS;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let at = usize::from(*first) % DIALECTS.len();
    let symbol = |base| KINDS[at].spelling.of(base, KINDS[at].quote);
    let (btc, eth) = (symbol("BTC"), symbol("ETH"));
    let topics = Topics {
        symbols: &[&btc, &eth],
        // The numbers that the embedded exchange gives the channels.
        channels: &[Some(232949), Some(232950)],
    };
    let price = |text: &str| match (DIALECTS[at].read)(text, &topics) {
        Said::Price { symbol, price, .. } => Some((symbol, price)),
        Said::Fault { symbol, .. } => {
            assert!(symbol.is_none_or(|symbol| symbol < 2));
            None
        }
        Said::Refusal(refusal) => {
            assert!(refusal.symbol.is_none_or(|symbol| symbol < 2));
            None
        }
        _ => None,
    };
    let Some((symbol, found)) = price(text) else {
        return;
    };
    assert!(symbol < 2 && is_price(found), "{found}");
    let whole = text.trim_end();
    for end in (0..whole.len()).step_by(1 + whole.len() / 64) {
        if whole.is_char_boundary(end) {
            assert_eq!(price(&whole[..end]), None, "{}", &whole[..end]);
        }
    }
});
