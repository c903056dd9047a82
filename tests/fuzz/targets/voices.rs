//! The children's log, which the aggregator shows: nothing is lost, in whatever pieces it arrives, and no child can pose as the
//! aggregator.
#![no_main]

use rsoracle::aggregator::voices::Voices;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut whole = Voices::default();
    let lines = whole.hear(bytes);
    let mut pieces = Voices::default();
    let at = bytes
        .first()
        .map_or(0, |first| usize::from(*first) % bytes.len());
    let first = pieces.hear(&bytes[..at]);
    assert_eq!([first, pieces.hear(&bytes[at..])].concat(), lines);
    for line in &lines {
        let roles = ["a child: ", "collector ", "exchange: "];
        assert!(roles.iter().any(|role| line.starts_with(role)), "{line}");
    }
    let ended = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines.len() <= ended);
    assert_eq!(whole.summary(), pieces.summary());
});
