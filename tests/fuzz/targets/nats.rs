//! What a NATS server sends, whole and byte by byte: both are read alike, and no more is kept than may be.
#![no_main]

use rsoracle::nats::limits::HEADERS_BYTES_MAX;
use rsoracle::nats::protocol::{Info, Parser, Said};

const PAYLOAD_BYTES_MAX: usize = 64;

/// What is said in these pieces, and whether it ended with an error.
fn said<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Said>, bool) {
    let (mut parser, mut all) = (Parser::new(PAYLOAD_BYTES_MAX), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() {
            let Ok((taken, said)) = parser.take(piece) else {
                return (all, true);
            };
            assert!((1..=piece.len()).contains(&taken));
            piece = &piece[taken..];
            all.extend(said);
        }
    }
    (all, false)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = said([bytes].into_iter());
    assert!(whole == said(bytes.chunks(1)));
    for said in whole.0 {
        match said {
            Said::Message(message) => {
                let length = message.payload.as_ref().map_or(0, Vec::len);
                assert!(length <= PAYLOAD_BYTES_MAX);
                let value = message.header("Nats-Sequence").map_or(0, str::len);
                assert!(value <= HEADERS_BYTES_MAX);
                assert!(message.status().is_none_or(|(status, _)| status <= 999));
            }
            Said::Info(text) => drop(Info::read(&text)),
            _ => {}
        }
    }
});
