//! Messages of exchanges: the first byte selects the dialect. Every price that is read is valid, and no truncated message has
//! one.
#![no_main]

use rsoracle::exchange::{DIALECTS, Said, Topic};
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
    let symbol = KINDS[at].spelling.of("BTC", KINDS[at].quote);
    let topic = Topic {
        symbol: &symbol,
        // The number that the embedded exchange gives the channel.
        channel: Some(232949),
    };
    let price = |text: &str| match (DIALECTS[at].read)(text, &topic) {
        Said::Price { price, .. } => Some(price),
        _ => None,
    };
    let Some(found) = price(text) else {
        return;
    };
    assert!(is_price(found), "{found}");
    let whole = text.trim_end();
    for end in (0..whole.len()).step_by(1 + whole.len() / 64) {
        if whole.is_char_boundary(end) {
            assert_eq!(price(&whole[..end]), None, "{}", &whole[..end]);
        }
    }
});
