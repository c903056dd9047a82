//! The body of an answer in HTTP/1.1 that has no known end: as it is, or in chunks (RFC 9112, section 7.1).
//!
//! Invariant: pure, total on any bytes, and at most one line of [`HTTP_HEAD_BYTES_MAX`] bytes is kept.

use crate::follow::limits::HTTP_HEAD_BYTES_MAX;

/// Where the body is.
#[derive(Debug)]
enum State {
    /// In the line that says how long the next chunk is.
    Length,
    /// In a chunk, of which so many bytes are to come.
    Chunk(u64),
    /// In the line end after a chunk.
    Between,
    /// In the fields after the last chunk.
    Trailer,
    /// After its end.
    Over,
}

/// The body, as far as it has arrived.
#[derive(Debug)]
pub struct Body {
    /// None if it is sent as it is.
    state: Option<State>,
    line: Vec<u8>,
}

impl Body {
    /// The body of an answer.
    pub fn new(is_chunked: bool) -> Body {
        Body {
            state: is_chunked.then_some(State::Length),
            line: Vec::new(),
        }
    }

    /// Appends what `bytes` have of the content to `out`. Returns whether more may come. The error says that it is no body.
    pub fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, &'static str> {
        let Some(state) = &mut self.state else {
            out.extend_from_slice(bytes);
            return Ok(true);
        };
        while !bytes.is_empty() {
            match state {
                State::Over => return Ok(false),
                State::Chunk(left) => {
                    let count = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    out.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    *left -= count as u64;
                    if *left == 0 {
                        *state = State::Between;
                    }
                }
                State::Length | State::Between | State::Trailer => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    if byte != b'\n' {
                        self.line.push(byte);
                        if self.line.len() > HTTP_HEAD_BYTES_MAX {
                            return Err("a line of its chunks is too long");
                        }
                        continue;
                    }
                    let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
                    *state = match state {
                        State::Between if line.is_empty() => State::Length,
                        State::Trailer if line.is_empty() => State::Over,
                        State::Trailer => State::Trailer,
                        State::Length => match length(line).ok_or(NO_CHUNK)? {
                            0 => State::Trailer,
                            length => State::Chunk(length),
                        },
                        _ => return Err(NO_CHUNK),
                    };
                    self.line.clear();
                }
            }
        }
        Ok(!matches!(state, State::Over))
    }
}

const NO_CHUNK: &str = "its chunks are not as HTTP has them";

/// The length of a chunk. What follows a semicolon does not matter.
fn length(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next().unwrap_or_default().trim_end();
    let right =
        (1..=16).contains(&digits.len()) && digits.bytes().all(|one| one.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pieces: &[&[u8]]) -> (String, Result<bool, &'static str>) {
        let (mut body, mut out, mut last) = (Body::new(true), Vec::new(), Ok(true));
        for piece in pieces {
            last = body.take(piece, &mut out);
            if last != Ok(true) {
                break;
            }
        }
        (String::from_utf8(out).unwrap(), last)
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_cut() {
        let text = b"5\r\nid: 1\r\n10;x=y\r\n\ndata: {0123456}\r\n2\n\n\n\r\n0\r\nA: b\r\n\r\n";
        let right = "id: 1\ndata: {0123456}\n\n";
        assert_eq!(whole(&[text]), (right.into(), Ok(false)));
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(whole(&[one, other]), (right.into(), Ok(false)), "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(whole(&bytes), (right.into(), Ok(false)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for text in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "11111111111111111\r\n",
            "1\r\nab\r\n",
        ] {
            assert_eq!(whole(&[text.as_bytes()]).1, Err(NO_CHUNK), "{text:?}");
        }
        let endless = [b'1'; HTTP_HEAD_BYTES_MAX + 1];
        assert!(whole(&[&endless]).1.is_err());
        assert_eq!(
            whole(&[b"ffffffffffffffff\r\nabc"]),
            ("abc".into(), Ok(true))
        );
        let mut out = Vec::new();
        assert_eq!(Body::new(false).take(b"5\r\n", &mut out), Ok(true));
        assert_eq!(out, b"5\r\n");
    }
}
