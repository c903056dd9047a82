//! Command lines: the first byte selects the command, and every line is an argument. Each is accepted, or refused with a
//! message.
#![no_main]

use rsoracle::cli::{collect, run, verify};
use rsoracle::collector::settings::Engagement;
use rsoracle::flags::args;
use rsoracle::flags::args::Usage;
use rsoracle::flags::tables::COMMANDS;
use rsoracle::roster::settings::RosterSettings;
use rsoracle::{doctor, embedded, history};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::schedule::Tenure;
use std::sync::LazyLock;

const START_US: u64 = 1_800_000_000_000_000;

/// The roster that a command line names, whatever its name, and which another one follows.
static ENGAGEMENT: LazyLock<Engagement> = LazyLock::new(|| {
    let text = include_str!("../../../src/proof/example.toml");
    Engagement {
        path: "oracle.roster".to_owned(),
        roster: Roster::parse(text).expect("a roster"),
        tenure: Tenure {
            from_us: 0,
            until_us: Some(START_US),
        },
    }
});

fn named() -> Engagement {
    ENGAGEMENT.clone()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let command = COMMANDS[usize::from(*first) % COMMANDS.len()];
    let words: Vec<String> = text.lines().map(str::to_owned).collect();
    let meant = args::parse(command, &words).and_then(|given| match command.name {
        "run" => run::read(&given).map(drop),
        "aggregate" => run::aggregate(&given, named()).map(drop),
        "collect" => collect::is_by_hand(&given)
            .and_then(|by_hand| collect::read(&given, by_hand.then(named).into_iter().collect()).map(drop)),
        "roster" => RosterSettings::from_flags(&given, START_US).map(drop),
        "exchange" => embedded::ExchangeSettings::from_flags(&given).map(drop),
        "verify" => verify::read(&given).map(drop),
        "history" => history::HistorySettings::from_flags(&given).map(drop),
        "doctor" => doctor::DoctorSettings::from_flags(&given).map(drop),
        _ => Ok(()),
    });
    if let Err(Usage(sentence)) = meant {
        assert!(!sentence.is_empty());
    }
});
