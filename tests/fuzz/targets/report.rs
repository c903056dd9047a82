//! Lines that `verify` reads: a line without a flaw is the only form of its contents, signing it again makes the same line, and
//! every line that can be read can be shown.
#![no_main]

use rsoracle::aggregator::words::{Absence, Words};
use rsoracle_proof::report::{Content, KeyChange, Report, Verifier};
use rsoracle_proof::seal::Keys;
use rsoracle::keys::secret::SecretKey;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let check = Verifier::default().check(text, u64::MAX);
    let mut keys = Keys::default();
    if let Ok(change) = KeyChange::read(text, &mut keys) {
        assert_eq!(change.line(), text);
    }
    if let Ok(mut report) = Report::read(text, &mut keys) {
        assert!(matches!(check.content, Content::Report(_)));
        if check.flaws.is_empty() {
            assert_eq!(report.line(), text);
        }
        // Otherwise, only changed bytes would ever be found.
        report.signature = SecretKey::from_seed(&mut [2; 32]).sign(&report.signed_bytes());
        again(&report, &mut keys);
        told(&report);
    }
});

/// Checks that a written line reads back as the same contents.
fn again(report: &Report, keys: &mut Keys) {
    let line = report.line();
    let read = Report::read(&line, keys).unwrap_or_else(|flaw| panic!("{flaw}: {line}"));
    assert_eq!(read.line(), line);
    assert_eq!(read.signed_bytes(), report.signed_bytes());
    let check = Verifier::default().check(&line, u64::MAX);
    assert!(
        !check.flaws.iter().any(|flaw| flaw.contains("canonical form")),
        "{:?}",
        check.flaws
    );
}

fn told(report: &Report) {
    assert_eq!(report.closing_line().is_some(), report.price().is_some());
    let slots = report.outcome.standings.len();
    let places: Vec<u16> = (0..slots as u16).collect();
    let words = Words(report, &places);
    let lines = words.details(&[], 3);
    let mut absences: Vec<Absence> = (0..slots).map(|_| Absence::default()).collect();
    let more = words.news(&mut absences, &vec![String::new(); slots], 3);
    for text in lines.iter().chain(&more) {
        assert!(!text.is_empty());
    }
    words.round_line(1, &absences);
    words.refused_text();
    words.failure();
    report.age_us();
}
