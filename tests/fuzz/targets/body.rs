//! The body of an answer: a plain decoder finds the same content in the whole text as the reader in pieces of any size. The first
//! byte says whether the body is in chunks, and how long the pieces are.
#![no_main]

use rsoracle::exchange::limits::HTTP_HEAD_BYTES_MAX;
use rsoracle::follow::body::Body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else {
        return;
    };
    let is_chunked = first % 2 == 0;
    let mut content = Vec::new();
    let end = match is_chunked {
        true => decode(text, &mut content),
        false => {
            content.extend_from_slice(text);
            Some(true)
        }
    };
    for size in [1, 1 + usize::from(first / 2), text.len().max(1)] {
        let (mut body, mut out, mut more) = (Body::new(is_chunked), Vec::new(), Some(true));
        for piece in text.chunks(size) {
            more = body.take(piece, &mut out).ok();
            if more != Some(true) {
                break;
            }
        }
        assert_eq!((more, &out), (end, &content), "pieces of {size} bytes");
    }
});

/// Appends the content of all chunks. Returns whether more may come; `None` if this is no body.
fn decode(mut text: &[u8], content: &mut Vec<u8>) -> Option<bool> {
    loop {
        let Some(line) = next_line(&mut text)? else {
            return Some(true);
        };
        let digits = line.split(|byte| *byte == b';').next()?;
        let digits = std::str::from_utf8(digits).ok()?.trim_end();
        if digits.is_empty() || digits.len() > 16 || digits.starts_with('+') {
            return None;
        }
        // What follows the semicolon must be text too.
        std::str::from_utf8(line).ok()?;
        let length = u64::from_str_radix(digits, 16).ok()?;
        if length == 0 {
            break;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((chunk, rest)) = text.split_at_checked(length) else {
            content.extend_from_slice(text);
            return Some(true);
        };
        content.extend_from_slice(chunk);
        text = rest;
        match next_line(&mut text)? {
            None => return Some(true),
            Some(b"") => {}
            Some(_) => return None,
        }
    }
    // The fields after the last chunk.
    loop {
        match next_line(&mut text)? {
            None => return Some(true),
            Some(b"") => return Some(false),
            Some(_) => {}
        }
    }
}

/// Takes the next line, without its end; `Some(None)` if it has not arrived whole, `None` if it is too long.
fn next_line<'a>(text: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let end = text.iter().position(|byte| *byte == b'\n');
    if end.unwrap_or(text.len()) > HTTP_HEAD_BYTES_MAX {
        return None;
    }
    let Some(end) = end else {
        return Some(None);
    };
    let line = &text[..end];
    *text = &text[end + 1..];
    Some(Some(line.strip_suffix(b"\r").unwrap_or(line)))
}
