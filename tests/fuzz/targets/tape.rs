//! The embedded exchange's tape: a tape that is read has one valid price at every instant.
#![no_main]

use rsoracle::embedded::tape::Tape;
use rsoracle::exchange::decimal as price;
use std::time::Duration;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let tape = match Tape::parse(text) {
        Ok(tape) => tape,
        Err(bad) => return assert!(bad.line <= text.lines().count() && !bad.wrong.is_empty()),
    };
    let length_ms = tape.length_ms();
    assert!(tape.count() > 0 && length_ms > 0 && !tape.symbol().is_empty());
    for part in tape.parts() {
        let mut before = None;
        for run_ms in [0, length_ms - 1, length_ms, length_ms + 1, u64::MAX] {
            let played = tape.at(&part, Duration::from_millis(run_ms));
            let digits = played.price.rsplit_once('.').expect("a decimal point").1;
            assert!(digits.len() == 8 && price::parse(&played.price).is_ok());
            assert!(before <= Some(played.number), "{run_ms}");
            before = Some(played.number);
        }
    }
});
