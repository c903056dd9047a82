//! Every frame of the control and data channels: a decoded frame encodes to the same bytes.
#![no_main]

use rsoracle::wire::*;
use rsoracle_proof::record::*;
use rsoracle_proof::reason::Reject;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(head) = bytes.first_chunk()
        && let Ok(kind) = FrameKind::decode(head)
    {
        assert!(kind.bytes() <= CONTROL_BYTES_MAX);
    }
    same(bytes, Challenge::decode, Challenge::encode);
    same(bytes, Hello::decode, Hello::encode);
    same(bytes, Ready::decode, Ready::encode);
    same(bytes, RoundFrame::decode, RoundFrame::encode);
    same(bytes, Sample::decode, Sample::encode);
    same(bytes, Record::decode, Record::encode);
    same(bytes, Refusal::decode, Refusal::encode);
    same(bytes, Preamble::decode, Preamble::encode);
    same(bytes, Observation::decode, Observation::encode);
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
