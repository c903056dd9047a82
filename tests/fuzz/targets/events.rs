//! A stream of events: a plain reader of the whole text finds the same events as ours in pieces of any size, unless one is too
//! long for ours. The first byte is the most bytes of an event's data, the second the size of the pieces.
#![no_main]

use rsoracle::follow::events::{Event, Events};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [bytes_max, size, text @ ..] = bytes else {
        return;
    };
    let bytes_max = usize::from(*bytes_max);
    let (events, is_sound) = plain(text, bytes_max);
    for size in [1, 1 + usize::from(*size), text.len().max(1)] {
        let (mut reader, mut found, mut failed) = (Events::new(bytes_max), Vec::new(), false);
        'text: for mut piece in text.chunks(size) {
            while !piece.is_empty() {
                let Ok((taken, event)) = reader.take(piece) else {
                    failed = true;
                    break 'text;
                };
                assert!(taken > 0 && (event.is_some() || taken == piece.len()));
                piece = &piece[taken..];
                found.extend(event);
            }
        }
        assert_eq!(failed, !is_sound, "pieces of {size} bytes");
        assert_eq!(found, events, "pieces of {size} bytes");
    }
});

/// The events up to the first that breaks a bound; whether none does.
fn plain(text: &[u8], bytes_max: usize) -> (Vec<Event>, bool) {
    let (mut events, mut event, mut lines) = (Vec::new(), Event::default(), Vec::<&[u8]>::new());
    let mut whole = text.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = whole.next() {
        // The longest line has a field's name before the data.
        if line.len() > bytes_max + 16 {
            return (events, false);
        }
        if whole.peek().is_none() {
            break;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let word = std::str::from_utf8(value);
        let word = word.ok().filter(|word| word.len() <= 64).map(str::to_owned);
        match (field, word) {
            (b"id" | b"event", None) => return (events, false),
            (b"id", Some(word)) => event.id = word,
            (b"event", Some(word)) => event.name = word,
            (b"data", _) => lines.push(value),
            _ => {}
        }
        event.data = lines.join(&b'\n');
        if event.data.len() > bytes_max + usize::from(lines.len() > 1) {
            return (events, false);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut event);
            if !std::mem::take(&mut lines).is_empty() {
                events.push(event);
            }
        }
    }
    (events, true)
}
