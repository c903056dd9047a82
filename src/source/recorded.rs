//! What the embedded exchange can play: the base of its recorded prices, and bases whose prices are the recorded ones times
//! a fixed factor.
//!
//! Invariant: no two bases have the same factor, and a recorded price, which has two decimals, times a factor has at most
//! eight. `embedded::tape` multiplies.

use super::Source;

/// The base of the built-in price tape.
const RECORDED: &str = "BTC";

/// The bases that are played with scaled prices, and the factor of each in millionths: ETH is at 0.0237 times the recorded
/// price. With these, prices are of the size that they had when the tape was recorded.
pub const SCALED: [(&str, u64); 24] = [
    ("ETH", 23_700),
    ("XRP", 28),
    ("BNB", 7_250),
    ("SOL", 1_650),
    ("DOGE", 2),
    ("TRX", 3),
    ("ADA", 8),
    ("LINK", 175),
    ("AVAX", 255),
    ("XLM", 4),
    ("LTC", 1_070),
    ("BCH", 3_890),
    ("DOT", 54),
    ("UNI", 81),
    ("NEAR", 33),
    ("APT", 68),
    ("ATOM", 57),
    ("FIL", 36),
    ("ETC", 212),
    ("AAVE", 2_120),
    ("ICP", 70),
    ("SUI", 26),
    ("ARB", 5),
    ("OP", 9),
];

/// What every base is sold for, whatever the quote currency of a tape is.
pub const QUOTES: [&str; 3] = ["USD", "USDC", "USDT"];

/// All bases that the embedded exchange plays from its built-in tape, the recorded one first.
pub fn bases() -> impl Iterator<Item = &'static str> {
    [RECORDED]
        .into_iter()
        .chain(SCALED.iter().map(|(base, _)| *base))
}

/// Whether a source, if it is embedded, is a market that the built-in tape plays.
pub fn plays(source: &Source) -> bool {
    let api = matches!(source.kind.name, "binance" | "binance-book");
    // Binance's WS-API sells for stablecoins only.
    let quotes = if api { &QUOTES[1..] } else { &QUOTES[..] };
    bases().any(|base| quotes.iter().any(|quote| source.prices(base, quote)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{KINDS, capitals};
    use std::collections::BTreeSet;

    #[test]
    fn every_base_is_there_once_and_has_a_factor_of_its_own() {
        let names: BTreeSet<&str> = bases().collect();
        assert_eq!(names.len(), 1 + SCALED.len());
        assert!(names.iter().all(|base| capitals(base)));
        let factors: BTreeSet<u64> = SCALED.iter().map(|(_, factor)| *factor).collect();
        assert_eq!(factors.len(), SCALED.len());
    }

    #[test]
    fn the_markets_of_its_bases_are_played_and_no_others() {
        for kind in &KINDS {
            let market = |base, quote| {
                let name = format!("embedded-{}:{}", kind.name, kind.spelling.of(base, quote));
                plays(&Source::parse(&name).expect("a source"))
            };
            assert!(market("BTC", "USDT") && market("LINK", "USDC"), "{kind:?}");
            let api = matches!(kind.name, "binance" | "binance-book");
            assert_eq!(market("ETH", "USD"), !api, "{kind:?}");
            assert!(!market("XMR", "USDT") && !market("BTC", "EUR"), "{kind:?}");
        }
    }
}
