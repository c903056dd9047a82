//! The price tape: recorded prices with their times, played in a loop.
//!
//! The built-in tape also plays other bases than its own, so that one exchange can serve many feeds. Their prices were never
//! traded: each is the recorded price times a fixed factor ([`crate::source::recorded`]). Each base plays the tape from
//! another place, so that the prices do not move together: the k-th of them is k/25 of the tape ahead. A tape of the
//! operator's (`--tape`) has its own symbol only: nobody but the operator could say what its prices would mean for others.
//!
//! Invariant: a tape has at least one price. The first is at offset 0, offsets strictly increase, and all are below the
//! tape's length; so every instant has exactly one price. Prices stay decimal text with eight decimals, as Binance writes
//! them: the recorded text is sent, or its exact product in whole numbers, and never passes through a float. This module
//! reads no clock and no file.

use super::quote::{text_of, units};
use crate::exchange::decimal as price;
use crate::source::recorded::SCALED;
use rsoracle_proof::source::quote_of;
use std::time::Duration;

/// The default tape, which `--tape` overrides. The file's header says where the prices come from.
pub const BUILT_IN: &str = include_str!("tape.csv");

/// Number of decimals of every price in an answer to Binance's `ticker.price`.
const DECIMALS: usize = 8;
/// The factor of the recorded prices themselves, in millionths.
const UNSCALED: u64 = 1_000_000;
/// Longest tape, in milliseconds: 366 days.
const LENGTH_MS_MAX: u64 = 366 * 86_400_000;
/// Longest symbol, in bytes (Binance: `^[A-Z0-9-_.]{1,20}$`).
const SYMBOL_BYTES_MAX: usize = 20;

/// Recorded prices of one symbol, and what else is played from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tape {
    symbol: String,
    length_ms: u64,
    /// At least one pair: the offset from the start of the tape in milliseconds, and the price from then on.
    prices: Vec<(u64, String)>,
    /// The parts with scaled prices.
    scaled: Vec<Part>,
}

/// One base that is played from a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Such as `ETH`.
    pub base: String,
    /// What a recorded price is multiplied by, in millionths.
    factor: u64,
    /// How far the part is ahead of the tape, in microseconds.
    ahead_us: u64,
}

/// The price in force at one instant while the tape is played in a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played<'a> {
    /// The price, with eight decimals, before it is [scaled](Part::scale).
    pub price: &'a str,
    /// Increases by one from one price of a part to the next.
    pub number: u64,
    /// How long it has been in force, in tape time.
    pub since: Duration,
}

/// Why a text is not a valid tape: the line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTape {
    /// OpenSocket number, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub wrong: String,
}

impl Part {
    /// The price to play instead of a recorded one: the exact product.
    pub fn scale(&self, recorded: &str) -> String {
        match (self.factor, units(recorded)) {
            (UNSCALED, _) | (_, None) => recorded.to_owned(),
            (factor, Some(units)) => {
                let product = i128::from(units) * i128::from(factor) / i128::from(UNSCALED);
                text_of(product as i64)
            }
        }
    }
}

impl Tape {
    /// The built-in tape, with all its parts.
    pub fn built_in() -> Tape {
        let mut tape = Tape::parse(BUILT_IN).expect("the built-in tape is tested to be a tape");
        let step_us = tape.length_ms * 1_000 / (SCALED.len() as u64 + 1);
        tape.scaled = (1..)
            .zip(SCALED)
            .map(|(place, (base, factor))| Part {
                base: base.to_owned(),
                factor,
                ahead_us: place * step_us,
            })
            .collect();
        tape
    }

    /// The parts that are played: the tape's own base first.
    pub fn parts(&self) -> Vec<Part> {
        let base = self.symbol.strip_suffix(quote_of(&self.symbol, ""));
        let own = Part {
            base: base.unwrap_or(&self.symbol).to_owned(),
            factor: UNSCALED,
            ahead_us: 0,
        };
        [own].into_iter().chain(self.scaled.clone()).collect()
    }

    /// Reads a tape: the lines `symbol,NAME` and `length_ms,N`, then lines `offset_ms,price`. A line that starts with `#` is
    /// a comment.
    pub fn parse(text: &str) -> Result<Tape, BadTape> {
        let mut tape = Tape {
            symbol: "BTCUSDT".to_owned(),
            length_ms: 0,
            prices: Vec::new(),
            scaled: Vec::new(),
        };
        let mut lines = 0;
        for (index, line) in text.lines().enumerate() {
            lines = index + 1;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                tape.take(line)
                    .map_err(|wrong| BadTape { line: lines, wrong })?;
            }
        }
        let last = tape.prices.last().map(|(offset, _)| *offset);
        let wrong = match last {
            None => "the tape has no prices; it takes lines 'offset_ms,price'".to_owned(),
            Some(_) if tape.length_ms == 0 => {
                "the tape has no line 'length_ms,N', the time after which it starts again"
                    .to_owned()
            }
            Some(last) if last >= tape.length_ms => format!(
                "the last offset, {last}, is not below length_ms, {}",
                tape.length_ms
            ),
            Some(_) => return Ok(tape),
        };
        Err(BadTape { line: lines, wrong })
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once(',').ok_or_else(|| {
            "a line is 'offset_ms,price', 'symbol,NAME' or 'length_ms,N'".to_owned()
        })?;
        match key {
            "symbol" => {
                let legal =
                    |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_.".contains(&b);
                if value.is_empty() || value.len() > SYMBOL_BYTES_MAX || !value.bytes().all(legal) {
                    return Err(format!(
                        "{value:?} is no symbol; it takes up to {SYMBOL_BYTES_MAX} capital letters and digits, as in BTCUSDT"
                    ));
                }
                self.symbol = value.to_owned();
            }
            "length_ms" => {
                self.length_ms = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=LENGTH_MS_MAX).contains(n))
                    .ok_or_else(|| {
                        format!("length_ms takes a whole number from 1 to {LENGTH_MS_MAX}")
                    })?;
            }
            offset => {
                let offset: u64 = offset.parse().map_err(|_| {
                    format!("{offset:?} is no offset; it takes a whole number of milliseconds")
                })?;
                match self.prices.last() {
                    None if offset != 0 => return Err("the first offset must be 0".to_owned()),
                    Some((before, _)) if *before >= offset => {
                        return Err(format!(
                            "offset {offset} does not come after {before}; offsets increase"
                        ));
                    }
                    _ => self.prices.push((offset, exact(value)?)),
                }
            }
        }
        Ok(())
    }

    /// The symbol whose prices are on the tape.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }

    /// Length of the tape in milliseconds, after which it starts again.
    pub fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// The number of prices on the tape.
    pub fn count(&self) -> usize {
        self.prices.len()
    }

    /// The price that is in force in a part after the tape has run for `run`.
    pub fn at(&self, part: &Part, run: Duration) -> Played<'_> {
        let run_us = u64::try_from(run.as_micros()).unwrap_or(u64::MAX);
        let run_us = run_us.saturating_add(part.ahead_us);
        let length_us = self.length_ms * 1_000;
        let (rounds, offset_us) = (run_us / length_us, run_us % length_us);
        let begun = |(offset_ms, _): &(u64, String)| offset_ms * 1_000 <= offset_us;
        let after = self.prices.partition_point(begun) as u64;
        let (offset_ms, price) = &self.prices[after as usize - 1];
        Played {
            price,
            number: rounds
                .saturating_mul(self.prices.len() as u64)
                .saturating_add(after),
            since: Duration::from_micros(offset_us - offset_ms * 1_000),
        }
    }
}

/// Tape time after `elapsed` of real time: `elapsed` times `speed`, saturating.
pub(crate) fn run_of(elapsed: Duration, speed: f64) -> Duration {
    // Microseconds stay exact in a float for 285 years; the cast saturates.
    Duration::from_micros((elapsed.as_micros() as f64 * speed) as u64)
}

/// The text of a price with exactly eight decimals. Zeros may be appended; nothing is ever rounded.
fn exact(text: &str) -> Result<String, String> {
    if price::parse(text).is_err() {
        return Err(format!(
            "{text:?} is no price; it takes a positive decimal number such as 87232.01"
        ));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let exact = format!("{whole}.{fraction:0<DECIMALS$}");
    let told = !text.contains(['e', 'E']) && fraction.len() <= DECIMALS;
    // The appended zeros may make it longer than collectors accept.
    if !told || price::parse(&exact).is_err() {
        return Err(format!(
            "{text:?} cannot be written with {DECIMALS} decimals; write it without an exponent, without leading zeros, and with at most {DECIMALS} decimals"
        ));
    }
    Ok(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    impl Tape {
        /// What the tape's own part plays.
        fn own(&self, run: Duration) -> Played<'_> {
            self.at(&self.parts()[0], run)
        }
    }

    #[test]
    fn the_built_in_tape_is_valid() {
        let tape = Tape::parse(BUILT_IN).unwrap();
        assert_eq!(
            (tape.symbol(), tape.length_ms(), tape.count()),
            ("BTCUSDT", 184_226, 456)
        );
        assert_eq!(tape.own(ms(0)).price, "87232.00000000");
        let prices: Vec<f64> = tape
            .prices
            .iter()
            .map(|(_, p)| price::parse(p).unwrap())
            .collect();
        // The bounds that the recording's description gives.
        assert!(prices.iter().all(|p| (87_200.18..=87_262.00).contains(p)));
        assert!(tape.prices.windows(2).all(|w| w[0].1 != w[1].1));
    }

    #[test]
    fn scaled_prices_are_exact_products_in_another_phase() {
        let tape = Tape::built_in();
        let parts = tape.parts();
        assert_eq!(parts.len(), 1 + SCALED.len());
        assert_eq!(parts[0].base, "BTC");
        assert_eq!(parts[0].scale("87232.01000000"), "87232.01000000");
        for (part, (base, factor)) in parts[1..].iter().zip(SCALED) {
            assert_eq!(part.base, base);
            for (_, recorded) in &tape.prices {
                // Digit by digit as on paper: nothing may be cut.
                let units: u128 = recorded.replace('.', "").parse().unwrap();
                assert_eq!(
                    units * u128::from(factor) % 1_000_000,
                    0,
                    "{base} {recorded}"
                );
                let told: u128 = part.scale(recorded).replace('.', "").parse().unwrap();
                assert_eq!(told, units * u128::from(factor) / 1_000_000);
            }
        }
        for (base, price) in [("ETH", "2067.39863700"), ("DOGE", "0.17446402")] {
            let part = parts.iter().find(|part| part.base == base).unwrap();
            assert_eq!(part.scale("87232.01000000"), price);
        }
        // ETH begins where bitcoin is after one part in 25 of the tape.
        let eth = tape.at(&parts[1], ms(0));
        assert_eq!(eth.price, tape.own(ms(184_226 / 25)).price);
        assert_eq!(tape.at(&parts[1], Duration::MAX).price.len(), 14);
    }

    #[test]
    fn a_tape_of_the_operators_has_one_part() {
        let tape = Tape::parse("symbol,DOGEUSDC\nlength_ms,9\n0,1").unwrap();
        let parts = tape.parts();
        assert_eq!((parts.len(), parts[0].base.as_str()), (1, "DOGE"));
    }

    #[test]
    fn a_price_lasts_until_the_next_and_the_tape_loops_exactly() {
        let tape =
            Tape::parse("symbol,ETHUSDT\nlength_ms,100\n0,1\n40,2.5\n99,3.12345678\n").unwrap();
        assert_eq!(tape.symbol(), "ETHUSDT");
        for (at, price, number, since) in [
            (0, "1.00000000", 1, 0),
            (39, "1.00000000", 1, 39),
            (40, "2.50000000", 2, 0),
            (98, "2.50000000", 2, 58),
            (99, "3.12345678", 3, 0),
            (100, "1.00000000", 4, 0),
            (1_000_000_041, "2.50000000", 30_000_002, 1),
        ] {
            let since = ms(since);
            let played = Played {
                price,
                number,
                since,
            };
            assert_eq!(tape.own(ms(at)), played, "{at}");
        }
        assert_ne!(tape.own(Duration::MAX).price, "");
    }

    #[test]
    fn speed_scales_time_and_saturates() {
        assert_eq!(run_of(ms(10), 1.0), ms(10));
        assert_eq!(run_of(ms(10), 0.5), ms(5));
        assert_eq!(run_of(ms(10), 1e6), Duration::from_secs(10_000));
        assert_eq!(run_of(Duration::MAX, 1e6), Duration::from_micros(u64::MAX));
    }

    /// Found by fuzzing: with its eight decimals a price could be longer than any collector reads.
    #[test]
    fn a_price_that_is_too_long_with_its_decimals_is_refused() {
        let tape = |zeros: usize| format!("length_ms,9\n0,{}1", "0".repeat(zeros));
        let exact = Tape::parse(&tape(54)).unwrap();
        assert!(price::parse(exact.own(ms(0)).price).is_ok());
        assert!(Tape::parse(&tape(55)).is_err());
    }

    #[test]
    fn an_invalid_tape_is_refused_with_its_line() {
        for (text, line, says) in [
            ("", 0, "no prices"),
            ("length_ms,5\n", 1, "no prices"),
            ("0,1\n", 1, "length_ms"),
            ("length_ms,5\n0,1\n5,2\n", 3, "not below"),
            ("length_ms,0\n", 1, "length_ms"),
            ("length_ms,-3\n", 1, "length_ms"),
            ("1,5\n", 1, "first offset"),
            ("0,5\n0,6\n", 2, "increase"),
            ("# c\n\n0;5\n", 3, "a line is"),
            ("0,NaN\n", 1, "no price"),
            ("0,-1\n", 1, "no price"),
            ("0,\n", 1, "no price"),
            ("0,1e5\n", 1, "exponent"),
            ("0,1.0e0\n", 1, "exponent"),
            ("0,1.123456789\n", 1, "decimals"),
            ("x,1\n", 1, "no offset"),
            ("symbol,btc\n", 1, "no symbol"),
            ("symbol,\n", 1, "no symbol"),
        ] {
            let bad = Tape::parse(text).unwrap_err();
            assert_eq!(bad.line, line, "{text:?}");
            assert!(bad.wrong.contains(says), "{text:?}: {}", bad.wrong);
        }
    }
}
