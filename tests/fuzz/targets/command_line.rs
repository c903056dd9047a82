//! Command lines: the first byte selects the command, and every line is an argument. Each is accepted, or refused with a
//! message.
#![no_main]

use rsoracle::flags::args;
use rsoracle::flags::args::Usage;
use rsoracle::flags::tables::COMMANDS;
use rsoracle::cli::{collect, run, verify};
use rsoracle::{doctor, embedded, history};

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
        "collect" => collect::read(&given).map(drop),
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
