//! What the embedded exchange can play: the base of its recorded prices, and bases whose prices are the recorded ones times
//! a fixed factor.
//!
//! Invariant: no two bases have the same factor, and a recorded price, which has two decimals, times a factor has at most
//! eight. `embedded::tape` multiplies.

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

/// Whether the embedded exchange plays this base from its built-in tape, in USD, USDC and USDT.
pub fn plays(base: &str) -> bool {
    bases().any(|own| own == base)
}

/// All bases that [`plays`] knows, the recorded one first.
pub fn bases() -> impl Iterator<Item = &'static str> {
    [RECORDED]
        .into_iter()
        .chain(SCALED.iter().map(|(base, _)| *base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::capitals;
    use std::collections::BTreeSet;

    #[test]
    fn every_base_is_there_once_and_has_a_factor_of_its_own() {
        let names: BTreeSet<&str> = bases().collect();
        assert_eq!(names.len(), 1 + SCALED.len());
        assert!(names.iter().all(|base| capitals(base)));
        let factors: BTreeSet<u64> = SCALED.iter().map(|(_, factor)| *factor).collect();
        assert_eq!(factors.len(), SCALED.len());
        assert!(plays("BTC") && plays("ETH"));
        assert!(!plays("XMR") && !plays("btc") && !plays(""));
    }
}
