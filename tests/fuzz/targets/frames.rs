//! Every frame of the control and data channels, and the messages of the tether: what is decoded encodes to the same bytes.
#![no_main]

use rsoracle::wire::handed::{Handed, TetherReader};
use rsoracle::wire::tether::message;
use rsoracle::wire::*;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::*;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(head) = bytes.first_chunk()
        && let Ok(kind) = FrameKind::decode(head)
    {
        assert!(kind.bytes() <= CONTROL_BYTES_MAX);
    }
    same(bytes, Challenge::decode, Challenge::encode);
    same(bytes, Hello::decode, Hello::encode);
    same(bytes, Ready::decode, Ready::encode);
    same(bytes, Sample::decode, Sample::encode);
    same(bytes, Record::decode, Record::encode);
    same(bytes, Ping::decode, Ping::encode);
    same(bytes, Pong::decode, Pong::encode);
    same(bytes, Refusal::decode, Refusal::encode);
    same(bytes, Preamble::decode, Preamble::encode);
    same(
        bytes,
        |bytes| Ok(DataFrame::decode(bytes)),
        DataFrame::encode,
    );
    same(bytes, Observation::decode, Observation::encode);
    handed(bytes);
});

fn same<const N: usize, T>(
    bytes: &[u8],
    decode: impl Fn(&[u8; N]) -> Result<T, Reject>,
    encode: impl Fn(&T) -> [u8; N],
) {
    if let Some(bytes) = bytes.first_chunk()
        && let Ok(value) = decode(bytes)
    {
        assert_eq!(encode(&value), *bytes);
    }
}

/// Reads what came down a tether, to its end or to the first wrong message.
fn handed(bytes: &[u8]) {
    let (mut reader, mut rest) = (TetherReader::default(), bytes);
    let mut again: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let Ok(wanted) = reader.wants() else { return };
        let (now, later) = rest.split_at(wanted.min(rest.len()).min(1_000));
        rest = later;
        match reader.add(now) {
            Ok(None) => continue,
            Ok(Some(Handed::Aggregator(key))) => again.extend(key),
            Ok(Some(Handed::Terms { from_us, feeds })) => {
                again.extend(message(from_us, &feeds));
            }
            Err(wrong) => return assert!(!wrong.is_empty()),
        }
        assert!(bytes.starts_with(&again));
    }
}
