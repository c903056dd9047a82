//! What was found about one source, what to do about it, and how both are shown.
//!
//! Invariant: pure functions. No line of the table is wider than [`COLUMNS`], however long an exchange's names are.

use crate::exchange::certificate::Certificate;
use crate::exchange::{Said, offset};
use crate::system::exact::Exact;
use crate::system::span::span;
use nanoserde::SerJson;
use rsoracle_proof::price;
use rsoracle_verify::error::Error;
use rsoracle_verify::log::printable;

/// A certificate that expires in fewer days than this is warned of.
const CERTIFICATE_DAYS_MIN: i64 = 14;
/// Width of the table in columns.
const COLUMNS: usize = 120;
/// Margins: of a usual line of the table, of a line with a problem, and of the problem and its advice below it.
const INDENT: &str = "  ";
const LOOK: &str = "! ";
const BELOW: &str = "      ";

/// What was found about one source.
pub(super) struct Finding {
    name: String,
    /// When it was examined, in microseconds since the Unix epoch.
    now_us: u64,
    /// The endpoint that was connected to, or tried last.
    pub(super) url: String,
    /// The proxy that was used.
    pub(super) proxy: Option<String>,
    /// The exchange's first endpoint, if it cannot be used and another one was.
    pub(super) passed_over: Option<String>,
    /// Time from name resolution to the open WebSocket, in microseconds.
    pub(super) open_us: Option<u64>,
    pub(super) certificate: Option<Certificate>,
    pub(super) price: Option<f64>,
    /// Age of the first price when it arrived, by the exchange's time.
    age_us: Option<u64>,
    /// Time from the ping to its pong.
    pub(super) round_trip_us: Option<u64>,
    /// This machine's clock minus the exchange's.
    pub(super) ahead_us: Option<i64>,
    /// Why there is no price.
    pub(super) error: Option<Error>,
}

/// Something that makes the source unusable (`fatal`), or that the operator should know.
#[derive(SerJson)]
struct Problem {
    fatal: bool,
    text: String,
    advice: String,
}

impl Finding {
    /// A finding about a source that has not been examined yet.
    pub(super) fn new(name: &str, now_us: u64) -> Finding {
        Finding {
            name: name.to_owned(),
            now_us,
            url: String::new(),
            proxy: None,
            passed_over: None,
            open_us: None,
            certificate: None,
            price: None,
            age_us: None,
            round_trip_us: None,
            ahead_us: None,
            error: None,
        }
    }

    /// Takes the time of the price in a message before the first price that counts, read at `now_us`.
    pub(super) fn hear(&mut self, said: &Said, now_us: u64) {
        if let Said::Price {
            time_us: Some(us), ..
        } = said
        {
            self.age_us = Some(now_us.saturating_sub(*us));
        }
    }

    /// Whether a collector can use the source.
    pub(super) fn is_usable(&self) -> bool {
        !self.problems().iter().any(|problem| problem.fatal)
    }

    /// All problems, fatal or not.
    fn problems(&self) -> Vec<Problem> {
        let error = self.error.iter().map(|error| Problem {
            fatal: true,
            text: format!("{}: {}", error.attempt, error.cause),
            advice: error.advice.clone(),
        });
        let clock = self.ahead_us.and_then(offset::words).map(|text| Problem {
            fatal: true,
            text,
            advice: offset::ADVICE.to_owned(),
        });
        let days = self
            .certificate
            .as_ref()
            .map(|read| read.days_left(self.now_us));
        let ends = days.filter(|days| *days < CERTIFICATE_DAYS_MIN);
        let certificate = ends.map(|days| Problem {
            fatal: false,
            text: format!("its certificate expires in {days} days"),
            advice: "its owner must renew it by then: the exchange, or a proxy that signs certificates in its place (see the issuer)".to_owned(),
        });
        let place = self.passed_over.as_ref().map(|url| Problem {
            fatal: false,
            text: format!("{url} cannot be used from here, {} can", self.url),
            advice: "nothing to do: collectors switch to it too".to_owned(),
        });
        error.chain(clock).chain(certificate).chain(place).collect()
    }

    fn verdict(&self) -> &'static str {
        match self.problems().as_slice() {
            [] => "usable",
            problems if problems.iter().any(|problem| problem.fatal) => "unusable",
            _ => "warning",
        }
    }

    /// Its line of the table, and its problems with their advice below.
    pub(super) fn lines(&self, name_chars: usize) -> Vec<String> {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let clock = |us: i64| {
            let sign = if us < 0 { '-' } else { '+' };
            format!("{sign}{}", length(us.unsigned_abs()))
        };
        let certificate = self
            .certificate
            .as_ref()
            .map(|read| format!("{} d, {}", read.days_left(self.now_us), read.issuer));
        let cells = [
            self.verdict().to_owned(),
            or_none(self.open_us.map(length)),
            or_none(self.round_trip_us.map(length)),
            or_none(self.price.map(price::text)),
            or_none(self.age_us.map(length)),
            or_none(self.ahead_us.map(clock)),
            or_none(certificate),
        ];
        let problems = self.problems();
        let margin = if problems.is_empty() { INDENT } else { LOOK };
        let mut lines = vec![row(
            margin,
            name_chars,
            &self.name,
            &cells.each_ref().map(String::as_str),
        )];
        for problem in problems {
            lines.extend(wrapped(&problem.text));
            if !problem.advice.is_empty() {
                lines.extend(wrapped(&format!("-> {}", problem.advice)));
            }
        }
        lines
    }

    /// The finding as one line of JSON.
    pub(super) fn json(&self) -> String {
        let certificate = self.certificate.as_ref();
        let problems = self.problems().into_iter().map(|problem| Problem {
            fatal: problem.fatal,
            text: printable(&problem.text),
            advice: printable(&problem.advice),
        });
        let told = Told {
            source: printable(&self.name),
            verdict: self.verdict(),
            url: printable(&self.url),
            proxy: self.proxy.as_deref().map(printable),
            open_us: self.open_us,
            round_trip_us: self.round_trip_us,
            price: self.price.map(Exact),
            age_us: self.age_us,
            clock_ahead_us: self.ahead_us,
            issuer: certificate.map(|read| printable(&read.issuer)),
            days_left: certificate.map(|read| read.days_left(self.now_us)),
            problems: problems.collect(),
        };
        told.serialize_json()
    }
}

/// The JSON form of a finding, with its fields in this order.
#[derive(SerJson)]
#[nserde(serialize_none_as_null)]
struct Told {
    source: String,
    verdict: &'static str,
    url: String,
    proxy: Option<String>,
    open_us: Option<u64>,
    round_trip_us: Option<u64>,
    price: Option<Exact>,
    age_us: Option<u64>,
    clock_ahead_us: Option<i64>,
    issuer: Option<String>,
    days_left: Option<i64>,
    problems: Vec<Problem>,
}

/// The headings of the table, whose first column is `name_chars` wide.
pub(super) fn heads(name_chars: usize) -> String {
    let heads = [
        "verdict",
        "open",
        "round trip",
        "price",
        "age",
        "clock",
        "certificate",
    ];
    row(INDENT, name_chars, "source", &heads)
}

fn row(margin: &str, name_chars: usize, name: &str, cells: &[&str; 7]) -> String {
    let [verdict, open, round_trip, price, age, clock, certificate] = cells;
    let line = format!(
        "{margin}{name:<name_chars$}  {verdict:<8}  {open:>8}  {round_trip:>10}  {price:>12}  {age:>8}  {clock:>9}  {certificate}"
    );
    let printable = printable(&line);
    match printable.char_indices().nth(COLUMNS) {
        None => printable,
        Some(_) => printable.chars().take(COLUMNS - 1).chain(['…']).collect(),
    }
}

/// Wraps a text between words; a word that is wider than a line is not split.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![BELOW.to_owned()];
    for word in printable(text).split_whitespace() {
        let line = lines.last_mut().expect("it is never empty");
        if line.trim().is_empty() || line.chars().count() + 1 + word.chars().count() <= COLUMNS {
            let blank = if line.trim().is_empty() { "" } else { " " };
            line.extend([blank, word]);
        } else {
            lines.push(format!("{BELOW}{word}"));
        }
    }
    lines
}

/// A duration with its unit: milliseconds below ten seconds.
fn length(us: u64) -> String {
    match us {
        0..1_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000..10_000_000 => format!("{} ms", us / 1_000),
        _ => span(us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::json;

    const NOW_US: u64 = 1_795_343_409_000_000;
    const DAY_US: u64 = 86_400_000_000;

    fn good() -> Finding {
        Finding {
            url: "wss://ws.kraken.com:443/v2".to_owned(),
            open_us: Some(123_456),
            certificate: Some(Certificate {
                issuer: "Test authority".to_owned(),
                not_after_us: NOW_US + 60 * DAY_US,
            }),
            price: Some(87_231.42),
            age_us: Some(250_000),
            round_trip_us: Some(31_000),
            ahead_us: Some(12_000),
            ..Finding::new("kraken:BTC/USD", NOW_US)
        }
    }

    fn price(time_us: u64) -> Said {
        Said::Price {
            symbol: 0,
            id: None,
            price: 1.0,
            time_us: Some(time_us),
        }
    }

    #[test]
    fn what_is_good_is_one_line_under_its_heads() {
        assert_eq!(
            [heads(14), good().lines(14).join("\n")].join("\n"),
            "  source          verdict       open  round trip         price       age      clock  certificate\n  \
             kraken:BTC/USD  usable      123 ms       31 ms      87231.42    250 ms     +12 ms  60 d, Test authority"
        );
        assert!(good().is_usable());
    }

    #[test]
    fn each_problem_has_its_verdict_and_its_advice() {
        let refused = Error::new("cannot open", "HTTP 451").advise("run elsewhere");
        let ends = |days: u64| {
            let issuer = "x".to_owned();
            let not_after_us = NOW_US + days * DAY_US;
            Some(Certificate {
                issuer,
                not_after_us,
            })
        };
        type Bend<'a> = &'a dyn Fn(&mut Finding);
        let table: [(Bend, &str, &str); 9] = [
            (
                &|f| f.error = Some(refused.clone()),
                "unusable",
                "cannot open: HTTP 451\n-> run elsewhere",
            ),
            (&|f| f.ahead_us = Some(1_000_000), "usable", ""),
            (
                &|f| f.ahead_us = Some(1_000_001),
                "unusable",
                "clock is 1.0 s ahead of the exchange's\n-> set it: run an NTP",
            ),
            (
                &|f| f.ahead_us = Some(-3_000_000),
                "unusable",
                "clock is 3.0 s behind the exchange's",
            ),
            (
                &|f| f.ahead_us = Some(i64::MIN),
                "unusable",
                "behind the exchange's",
            ),
            (&|f| f.certificate = ends(14), "usable", ""),
            (
                &|f| f.certificate = ends(13),
                "warning",
                "its certificate expires in 13 days\n-> its owner",
            ),
            (
                &|f| f.passed_over = Some("wss://a:1".into()),
                "warning",
                "wss://a:1 cannot be used from here, wss://ws.kraken.com:443/v2 can",
            ),
            (
                &|f| (f.price, f.age_us, f.ahead_us) = (None, None, None),
                "usable",
                "",
            ),
        ];
        for (bend, verdict, says) in table {
            let mut finding = good();
            bend(&mut finding);
            let lines = finding.lines(14);
            let below: Vec<&str> = lines[1..].iter().map(|line| line.trim()).collect();
            let below = below.join("\n");
            assert!(lines[0].contains(verdict), "{lines:?}");
            assert!(
                below.contains(says) && below.is_empty() == says.is_empty(),
                "{below}"
            );
            assert_eq!(lines[0].starts_with(LOOK), !says.is_empty());
            assert_eq!(finding.is_usable(), verdict != "unusable");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_steers_it() {
        let mut finding = good();
        finding.name = "embedded-binance-stream:BTCUSDT".to_owned();
        finding.certificate = Some(Certificate {
            issuer: "ж".repeat(64),
            not_after_us: u64::MAX,
        });
        (finding.price, finding.ahead_us) = (Some(1e15), Some(i64::MAX));
        let long = "a word \x1b[31m and another ".repeat(20);
        finding.error = Some(Error::new(long.clone(), "x".repeat(300)).advise(long));
        let lines = finding.lines(31);
        assert!(lines.len() > 8, "{lines:?}");
        for line in &lines {
            let wide = line.chars().count() > COLUMNS && !line.contains("xxx");
            assert!(!wide && !line.contains('\x1b'), "{line}");
        }
        assert!(lines[0].ends_with('…'));
    }

    #[test]
    fn software_gets_json_whatever_is_known() {
        let mut bad = good();
        bad.error = Some(Error::new("a \"quoted\" \\ attempt", "c\nause").advise("advice"));
        bad.proxy = Some("127.0.0.1:3128".to_owned());
        for (finding, part) in [
            (
                Finding::new("binance:BTCUSDC", NOW_US),
                "\"price\":null,\"age_us\":null,\"clock_ahead_us\":null,\"issuer\":null,\"days_left\":null,\"problems\":[]",
            ),
            (
                good(),
                "\"verdict\":\"usable\",\"url\":\"wss://ws.kraken.com:443/v2\",\"proxy\":null,\"open_us\":123456,\"round_trip_us\":31000,\"price\":87231.42,\"age_us\":250000,\"clock_ahead_us\":12000,\"issuer\":\"Test authority\",\"days_left\":60",
            ),
            (
                bad,
                "\"problems\":[{\"fatal\":true,\"text\":\"a \\\"quoted\\\" \\\\ attempt: c·ause\",\"advice\":\"advice\"}]",
            ),
        ] {
            let line = finding.json();
            assert_eq!(json::check(&line), Ok(()), "{line}");
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn the_age_is_that_of_the_first_price_that_counts() {
        let mut finding = Finding::new("kraken:BTC/USD", NOW_US);
        for (time_us, age_us) in [
            (NOW_US - 8_000_000, 8_000_000),
            (NOW_US - 300_000, 300_000),
            // A price from the future.
            (NOW_US + 3_000_000, 0),
        ] {
            finding.hear(&price(time_us), NOW_US);
            finding.hear(&Said::ALIVE, NOW_US);
            assert_eq!(finding.age_us, Some(age_us));
        }
    }

    #[test]
    fn lengths_have_a_fitting_unit() {
        for (us, text) in [
            (0, "0.0 ms"),
            (250, "0.2 ms"),
            (9_999_999, "9999 ms"),
            (10_000_000, "10.0 s"),
        ] {
            assert_eq!(length(us), text);
        }
    }
}
