//! Turns the flags and operands of `rsoracle roster` into what is to be done.

use crate::flags::args::{Given, Usage};
use crate::flags::tables::ROSTER;
use crate::flags::values::{accepted, listed, optional, path, sample_rule};
use crate::source::Source;
use crate::source::market::in_capitals;
use rsoracle_proof::limits::{
    COLLECTORS_MAX, FEEDS_MAX, INTERVAL_US_MAX, INTERVAL_US_MIN, ROUND_US_MAX, SAMPLES_MAX,
    TIME_US_MAX,
};
use rsoracle_proof::roster::{instant_us, ppm};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::unhex;
use rsoracle_proof::source::check_feed;
use rsoracle_proof::terms::{Roster, Terms};
use std::collections::BTreeSet;

/// What `--source` says of a feed that a seat does not price.
pub(super) const NO_SOURCE: &str = "none";

/// What `rsoracle roster` is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RosterSettings {
    /// What is to be done.
    pub action: Action,
    /// The file for the result; `None` for standard output.
    pub out: Option<String>,
}

/// The actions of `rsoracle roster`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write a draft: this roster, which has no slots yet.
    New(Roster),
    /// Sign a seat.
    Seat {
        /// The file of the secret key.
        key: String,
        /// What the collector will watch for each feed; empty where it prices none.
        sources: Vec<String>,
    },
    /// Put signed seats into a draft.
    Assemble {
        /// The file of the draft.
        draft: String,
        /// The files of the seats, in the order of the slots.
        seats: Vec<String>,
        /// The roster's number; `None` for the draft's.
        number: Option<u64>,
        /// The digest of the roster before it; `None` for the draft's.
        previous: Option<[u8; 32]>,
    },
    /// Add endorsements of a change to the file of the roster that is to follow another.
    Change {
        /// The files of both rosters.
        rosters: [String; 2],
        /// From when on the second one is to count; `None` if its file says it.
        from_us: Option<u64>,
        /// The files of the endorsements.
        endorsements: Vec<String>,
    },
    /// Endorse a change of roster.
    Endorse {
        /// The files of both rosters.
        rosters: [String; 2],
        /// The file of the secret key.
        key: String,
        /// The folder of the file that keeps what is endorsed; `None` for that of the key.
        state: Option<String>,
    },
    /// Check a roster.
    Check {
        /// Its file.
        path: String,
        /// The file of the roster that it must follow.
        after: Option<String>,
        /// The file of the secret key whose slot is looked for.
        key: Option<String>,
        /// Currencies that are accepted for the feed's own.
        accepted: BTreeSet<String>,
    },
    /// Show a roster.
    Show {
        /// Its file.
        path: String,
    },
}

/// The actions, each with the flags that go with it.
const ACTIONS: [(&str, &str); 7] = [
    (
        "new",
        "rule sample-rule min-exchanges max-age max-spread samples interval every first-start end number previous out",
    ),
    ("seat", "key source out"),
    ("assemble", "number previous out"),
    ("change", "from out"),
    ("endorse", "key state out"),
    ("check", "key accept-quote after"),
    ("show", ""),
];

/// What is said if no action is named.
pub fn which_action() -> String {
    let names = ACTIONS.map(|(name, _)| name).join(", ");
    format!(
        "which action? 'rsoracle roster ACTION', one of {names}; 'rsoracle help roster' describes them"
    )
}

impl RosterSettings {
    /// Reads the flags of [`ROSTER`]. A draft's first start is the next full minute, unless one is given.
    pub fn from_flags(given: &Given, now_us: u64) -> Result<RosterSettings, Usage> {
        let (action, operands) = given.operands().split_first().expect("one is required");
        let Some((action, flags)) = ACTIONS.iter().find(|(name, _)| name == action) else {
            let names = ACTIONS.map(|(name, _)| name).join(", ");
            return Err(Usage(format!(
                "'{action}' is no action of 'roster'; actions: {names}"
            )));
        };
        let mut names = ROSTER.flags.iter().map(|flag| flag.name);
        let foreign = |name: &&str| given.has(name) && flags.split(' ').all(|flag| flag != *name);
        if let Some(name) = names.find(foreign) {
            return Err(Usage(format!(
                "--{name} does not go with 'roster {action}'"
            )));
        }
        Ok(RosterSettings {
            action: read_action(action, operands, given, now_us)?,
            out: path(given, "out")?,
        })
    }
}

/// Reads the operands and flags of an action.
fn read_action(
    action: &str,
    operands: &[String],
    given: &Given,
    now_us: u64,
) -> Result<Action, Usage> {
    let one = |what| only(action, what, operands);
    Ok(match action {
        "new" => {
            let feeds = operands.iter().flat_map(|text| text.split(','));
            let feeds: Vec<String> = feeds.map(str::to_owned).collect();
            Action::New(draft(given, &feeds, now_us)?)
        }
        "seat" => {
            operands.iter().try_for_each(|first| {
                let what = "is too many; 'roster seat' takes only flags";
                Err(Usage(format!("'{first}' {what}")))
            })?;
            given.required("source")?;
            given.required("key")?;
            Action::Seat {
                key: path(given, "key")?.expect("it was given"),
                sources: sources(given)?,
            }
        }
        "assemble" => match operands {
            [] | [_] => {
                return Err(Usage(
                    "DRAFT and SEAT… are missing: rsoracle roster assemble DRAFT SEAT…".into(),
                ));
            }
            [draft, seats @ ..] => Action::Assemble {
                draft: draft.clone(),
                seats: seats.to_vec(),
                number: number(given)?,
                previous: previous(given)?,
            },
        },
        "change" => {
            let (rosters, endorsements) = two(action, operands)?;
            Action::Change {
                rosters,
                from_us: read(given, "from", instant_us)?,
                endorsements: endorsements.to_vec(),
            }
        }
        "endorse" => {
            let (rosters, more) = two(action, operands)?;
            more.iter().try_for_each(|more| {
                let what = "is one too many; 'roster endorse' takes OLD and NEW";
                Err(Usage(format!("'{more}' {what}")))
            })?;
            given.required("key")?;
            Action::Endorse {
                rosters,
                key: path(given, "key")?.expect("it was given"),
                state: path(given, "state")?,
            }
        }
        "check" => Action::Check {
            path: one("FILE")?.to_owned(),
            after: path(given, "after")?,
            key: path(given, "key")?,
            accepted: accepted(given)?,
        },
        _ => Action::Show {
            path: one("FILE")?.to_owned(),
        },
    })
}

/// The two rosters after an action, and the operands behind them.
fn two<'a>(action: &str, operands: &'a [String]) -> Result<([String; 2], &'a [String]), Usage> {
    match operands {
        [old, new, rest @ ..] => Ok(([old.clone(), new.clone()], rest)),
        _ => Err(Usage(format!(
            "OLD and NEW are missing: rsoracle roster {action} OLD NEW"
        ))),
    }
}

/// The only operand after an action.
fn only<'a>(action: &str, what: &str, operands: &'a [String]) -> Result<&'a str, Usage> {
    match operands {
        [one] => Ok(one),
        [] => Err(Usage(format!(
            "{what} is missing: rsoracle roster {action} {what}"
        ))),
        [_, second, ..] => Err(Usage(format!(
            "'{second}' is one too many; 'roster {action}' takes one {what}"
        ))),
    }
}

/// A flag's value by a parser of rosters, whose error says what would be right.
fn read<T>(
    given: &Given,
    name: &str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, Usage> {
    let wrong =
        |text: &str, right: &str| given.wrong(name, text, right.trim_start_matches("it takes "));
    let value = |text: &str| parse(text).map_err(|right| wrong(text, right));
    given.text(name).map(value).transpose()
}

fn number(given: &Given) -> Result<Option<u64>, Usage> {
    optional(given, "number", |given| {
        given.number("number", 1..=i64::MAX as u64)
    })
}

fn previous(given: &Given) -> Result<Option<[u8; 32]>, Usage> {
    read(given, "previous", |text| {
        unhex(text).ok_or("a roster digest: 64 lower-case hexadecimal digits")
    })
}

/// The sources of a seat, all of one kind.
fn sources(given: &Given) -> Result<Vec<String>, Usage> {
    let mut sources = Vec::new();
    let mut first: Option<Source> = None;
    for name in listed(given, "source") {
        if name == NO_SOURCE {
            sources.push(String::new());
            continue;
        }
        let source = Source::parse(name).map_err(|right| given.wrong("source", name, &right))?;
        let first = first.get_or_insert_with(|| source.clone());
        if first.prefix() != source.prefix() {
            let first = &first.name;
            return Err(Usage(format!(
                "--source {first} and --source {name} are of two kinds; a collector watches one exchange, over one connection"
            )));
        }
        sources.push(source.name);
    }
    match first {
        Some(_) if sources.len() <= FEEDS_MAX => Ok(sources),
        Some(_) => Err(Usage(format!(
            "--source names {} sources; a roster has at most {FEEDS_MAX} feeds",
            sources.len()
        ))),
        None => Err(Usage(format!(
            "--source {NO_SOURCE} alone is not valid: a collector watches something"
        ))),
    }
}

/// The roster without slots that the flags of `roster new` describe. All its feeds have the same terms.
fn draft(given: &Given, feeds: &[String], now_us: u64) -> Result<Roster, Usage> {
    const MINUTE_US: u64 = 60_000_000;
    if feeds.is_empty() {
        return Err(Usage("FEED… is missing: rsoracle roster new FEED…".into()));
    }
    for (at, feed) in feeds.iter().enumerate() {
        check_feed(feed)
            .map_err(|right| Usage(format!("{feed:?} is no name of a feed; it takes {right}")))?;
        if let Some(capitals) = in_capitals(feed) {
            return Err(Usage(format!(
                "feed {feed}: write currencies in capitals, {capitals}"
            )));
        }
        if feeds[..at].contains(feed) {
            return Err(Usage(format!("'{feed}' is given twice")));
        }
    }
    if feeds.len() > FEEDS_MAX {
        let count = feeds.len();
        return Err(Usage(format!(
            "{count} feeds are too many; a roster has at most {FEEDS_MAX}"
        )));
    }
    let next_minute_us = (now_us / MINUTE_US + 1) * MINUTE_US;
    let schedule = Schedule {
        first_start_us: read(given, "first-start", instant_us)?.unwrap_or(next_minute_us),
        period_us: given.duration_us("every", 0..=ROUND_US_MAX)?,
        end_us: read(given, "end", instant_us)?,
        samples: given.number("samples", 1..=SAMPLES_MAX)?,
        interval_us: given.duration_us("interval", INTERVAL_US_MIN..=INTERVAL_US_MAX)?,
    };
    schedule.check().map_err(Usage)?;
    let terms = Terms {
        feed: String::new(),
        rule: given.read("rule", "trimmed-mean, median or mean")?,
        sample_rule: sample_rule(given)?,
        exchanges_min: given.number("min-exchanges", 1..=COLLECTORS_MAX)?,
        age_us_max: optional(given, "max-age", |given| {
            given.duration_us("max-age", 0..=TIME_US_MAX)
        })?,
        spread_ppm_max: read(given, "max-spread", ppm)?,
        schedule,
        seats: Vec::new(),
    };
    let of_feed = |feed: &String| Terms {
        feed: feed.clone(),
        ..terms.clone()
    };
    let feeds = feeds.iter().map(of_feed).collect();
    let number = number(given)?.unwrap_or(1);
    Ok(Roster::new(number, previous(given)?, feeds, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::args::parse;

    fn settings(line: &str) -> Result<RosterSettings, Usage> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        RosterSettings::from_flags(&parse(&ROSTER, &words)?, 90_000_000)
    }

    #[test]
    fn a_draft_has_sensible_defaults_and_begins_with_the_next_minute() {
        let Ok(Action::New(roster)) = settings("new BTC/USD").map(|settings| settings.action)
        else {
            panic!("a draft");
        };
        let terms = &roster.feeds[0];
        assert_eq!((roster.number, roster.previous), (1, None));
        assert_eq!(
            (terms.rule.name(), terms.sample_rule.name()),
            ("trimmed-mean", "mean")
        );
        assert_eq!(
            terms.schedule,
            Schedule {
                first_start_us: 120_000_000,
                period_us: 10_000_000,
                end_us: None,
                samples: 10,
                interval_us: 1_000_000,
            }
        );
    }

    #[test]
    fn the_flags_of_a_draft_are_its_terms() {
        let line = "new ETH/EUR --rule median --sample-rule median --min-exchanges 3 --max-age 60s --max-spread 2% --samples 3 \
                    --interval 20ms --every 100ms --first-start 2026-12-01T00:00:00Z --end 2027-01-01T00:00:00.5Z --number 7 --out x";
        let settings = settings(line).expect("sense");
        let Action::New(Roster { number, feeds, .. }) = settings.action else {
            panic!("a draft");
        };
        let terms = &feeds[0];
        assert_eq!((number, settings.out.as_deref()), (7, Some("x")));
        assert_eq!((terms.feed.as_str(), terms.exchanges_min), ("ETH/EUR", 3));
        assert_eq!(
            (terms.age_us_max, terms.spread_ppm_max),
            (Some(60_000_000), Some(20_000))
        );
        assert_eq!(terms.schedule.first_start_us, 1_796_083_200_000_000);
        assert_eq!(terms.schedule.end_us, Some(1_798_761_600_500_000));
    }

    #[test]
    fn a_draft_of_several_feeds_and_a_seat_with_a_source_for_each() {
        let drafts = [
            "new BTC/USD ETH/USD SOL/USD --max-spread 1%",
            "new BTC/USD,ETH/USD SOL/USD --max-spread 1%",
        ];
        for line in drafts {
            let Ok(Action::New(roster)) = settings(line).map(|settings| settings.action) else {
                panic!("a draft");
            };
            let names: Vec<&str> = roster.feeds.iter().map(|terms| &*terms.feed).collect();
            assert_eq!(names, ["BTC/USD", "ETH/USD", "SOL/USD"]);
            let wide = |terms: &Terms| terms.spread_ppm_max == Some(10_000);
            assert!(roster.feeds.iter().all(wide));
        }
        let lines = [
            "seat --key x --source kraken:BTC/USD --source none --source kraken:SOL/USD",
            "seat --key x --source kraken:BTC/USD,none --source kraken:SOL/USD",
        ];
        for line in lines {
            let sources = ["kraken:BTC/USD", "", "kraken:SOL/USD"].map(str::to_owned);
            let seat = Action::Seat {
                key: "x".into(),
                sources: sources.into(),
            };
            assert_eq!(settings(line).map(|settings| settings.action), Ok(seat));
        }
        let many = |count: usize| {
            let feeds: Vec<String> = (0..count).map(|feed| format!("X{feed}")).collect();
            settings(&format!("new {}", feeds.join(" "))).err()
        };
        let says = "65 feeds are too many; a roster has at most 64";
        assert_eq!((many(64), many(65)), (None, Some(Usage(says.into()))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, says) in [
            ("sit", "new, seat, assemble, change, endorse, check, show"),
            ("new", "FEED… is missing"),
            ("new BTC/USD ETH/USD BTC/USD", "'BTC/USD' is given twice"),
            ("new BTC/USD,BTC/USD", "'BTC/USD' is given twice"),
            ("new BTC/USD,", "1 to 16 visible"),
            (
                "new btc/usd",
                "feed btc/usd: write currencies in capitals, BTC/USD",
            ),
            ("seat --key x --source none,none", "--source none alone"),
            (
                "seat --key x --source kraken:BTC/USD,none,coinbase:SOL-USD",
                "--source kraken:BTC/USD and --source coinbase:SOL-USD are of two kinds",
            ),
            ("new BTC\"USD", "1 to 16 visible"),
            ("new BTC/USD --every 5s", "use fewer samples"),
            ("new BTC/USD --first-start noon", "--first-start \"noon\""),
            ("new BTC/USD --max-spread 2", "--max-spread \"2\""),
            ("new BTC/USD --number 0", "--number \"0\""),
            ("new BTC/USD --previous ab", "--previous \"ab\""),
            ("new BTC/USD --key x", "--key does not go with 'roster new'"),
            ("seat x", "'x' is too many"),
            ("seat --key x", "--source is missing"),
            ("seat --source kraken:BTC/USD", "--key is missing"),
            ("seat --key x --source kraken:XBT", "kraken:BTC/USD"),
            ("seat --key x --samples 3", "--samples does not go"),
            ("assemble draft", "DRAFT and SEAT… are missing"),
            ("check", "FILE is missing"),
            ("check a --accept-quote usdt", "capital letters"),
            ("show a b", "'b' is one too many"),
            ("show a --out b", "--out does not go"),
        ] {
            let Usage(sentence) = settings(line).expect_err(line);
            assert!(sentence.contains(says), "{line}: {sentence}");
        }
    }
}
