//! Lines of a journal, as the index looks at them: it finds in every report what reading the whole report finds, and takes no
//! line for a report whose head and end are spelled otherwise.
#![no_main]

use rsoracle::serve::scan::{Head, Kind, head, scan, signature};
use rsoracle_proof::report::{Content, KeyChange, Proof, Report, Verifier};
use rsoracle_proof::seal::{Keys, hex};
use rsoracle_proof::source::check_feed;

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    let kind = scan(line);
    if let Kind::Report(found) = kind {
        spelled(&found, line);
        assert_eq!(head(line, line), Some(found));
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return assert!(matches!(kind, Kind::Odd(_)));
    };
    let mut keys = Keys::default();
    // A line in another form may be passed over, or say something else than its samples give. So may one with a number or a feed
    // that every verifier refuses.
    if let Ok(report) = Report::read(text, &mut keys)
        && report.line() == text
        && report.number > 0
        && check_feed(&report.round.terms.feed).is_ok()
    {
        let Kind::Report(found) = kind else {
            panic!("{kind:?}");
        };
        agrees(&found, line, &report);
    }
    if let Ok(change) = KeyChange::read(text, &mut keys)
        && change.line() == text
        && check_feed(&change.feed).is_ok()
    {
        let Kind::Change(found) = kind else {
            panic!("{kind:?}");
        };
        assert_eq!(found.feed, change.feed);
        let previous = hex(&change.previous);
        assert!(previous.starts_with(&format!("{:032x}", found.previous)));
    }
    if Proof::read(text, &mut keys).is_ok_and(|proof| proof.line() == text) {
        assert_eq!(kind, Kind::Aside);
    }
    let check = Verifier::default().check(text, u64::MAX);
    if check.flaws.is_empty() {
        assert_eq!(
            matches!(kind, Kind::Report(_)),
            matches!(check.content, Content::Report(_))
        );
    }
});

/// Checks that a line begins and ends as what was found of it is written.
fn spelled(found: &Head, line: &[u8]) {
    let text = std::str::from_utf8(line).expect("visible ASCII");
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    let Head {
        number,
        feed,
        start_us,
        ..
    } = found;
    assert!(*number > 0);
    let begin =
        format!("{{\"rsoracle_report\":2,\"number\":{number},\"feed\":\"{feed}\",\"price\":");
    assert!(text.starts_with(&begin), "{begin}");
    let decision = format!(",\"decision\":\"{}\",\"time\":", found.decision.name());
    let start = format!(",\"round_start_us\":{start_us},\"rule\":\"");
    let at = [decision, start].map(|part| text.find(&part).unwrap_or_else(|| panic!("{part}")));
    assert!(at[0] < at[1]);
    let digits = signature(line).expect("a report has a signature");
    assert!(digits.starts_with(&format!("{:032x}", found.tip)));
    assert!(text.ends_with(&format!(",\"signature\":\"{digits}\"}}")));
    let previous = match found.previous {
        None => ",\"previous\":null,".to_owned(),
        Some(tip) => format!(",\"previous\":\"{tip:032x}"),
    };
    let at = text
        .rfind(",\"previous\":")
        .expect("a report has one before it, or none");
    assert!(text[at..].starts_with(&previous), "{previous}");
}

/// Checks that what was found of a line is what its report says.
fn agrees(found: &Head, line: &[u8], report: &Report) {
    let digits = |signature: &[u8; 64]| hex(signature)[..32].to_owned();
    let tip = |tip: u128| format!("{tip:032x}");
    assert_eq!(
        (found.number, found.feed),
        (report.number, &*report.round.terms.feed)
    );
    assert_eq!(
        (found.decision, found.start_us),
        (report.decision, report.round.start_us)
    );
    assert_eq!(
        found.previous.map(tip),
        report.previous.as_ref().map(digits)
    );
    assert_eq!(tip(found.tip), digits(&report.signature));
    assert_eq!(signature(line), Some(&*hex(&report.signature)));
}
