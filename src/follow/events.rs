//! Server-sent events (HTML standard, section 9.2): from bytes to events.
//!
//! Invariant: pure, total on any bytes, and no more is kept than one event of the longest report. A lone carriage return ends no
//! line here, since no server of reports sends one.

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id; empty if it has none.
    pub id: String,
    /// Its name; empty for a message.
    pub name: String,
    /// Its data, in UTF-8 or not.
    pub data: Vec<u8>,
}

/// A stream of events, as far as it has arrived.
#[derive(Debug)]
pub struct Events {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    bytes_max: usize,
}

impl Events {
    /// A stream from its beginning. `bytes_max`: most bytes of an event's data.
    pub fn new(bytes_max: usize) -> Events {
        Events {
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            bytes_max,
        }
    }

    /// Takes bytes up to the end of the next event. Returns how many were taken, and the event. The error says that it is too long.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), &'static str> {
        let mut taken = 0;
        while let Some(end) = bytes[taken..].iter().position(|byte| *byte == b'\n') {
            self.grow(&bytes[taken..taken + end])?;
            taken += end + 1;
            let line = std::mem::take(&mut self.line);
            if let Some(event) = self.line(line.strip_suffix(b"\r").unwrap_or(&line))? {
                return Ok((taken, Some(event)));
            }
        }
        self.grow(&bytes[taken..])?;
        Ok((bytes.len(), None))
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        const FIELD_BYTES: usize = 16;
        if self.line.len() + bytes.len() > self.bytes_max + FIELD_BYTES {
            return Err(TOO_LONG);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes a whole line. Returns the event that an empty one ends.
    fn line(&mut self, line: &[u8]) -> Result<Option<Event>, &'static str> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"id" => self.event.id = short(value)?,
            b"event" => self.event.name = short(value)?,
            b"data" => {
                if self.event.data.len() + value.len() > self.bytes_max {
                    return Err(TOO_LONG);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
            }
            // A comment, or a field that says nothing here.
            _ => {}
        }
        Ok(None)
    }
}

const TOO_LONG: &str = "an event is longer than any report of the roster";

/// An id or a name: none of ours has more than 64 bytes.
fn short(value: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(value).ok();
    let text = text.filter(|text| text.len() <= 64);
    text.map(str::to_owned)
        .ok_or("an id or a name is too long or no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<(String, String, String)>, &'static str> {
        let (mut events, mut found) = (Events::new(20), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, event) = events.take(rest)?;
                rest = &rest[taken..];
                found.extend(event.map(|event| {
                    let data = String::from_utf8(event.data).unwrap();
                    (event.id, event.name, data)
                }));
            }
        }
        Ok(found)
    }

    #[test]
    fn events_are_read_wherever_they_are_cut() {
        let text = b":\n\n: a comment\nid: 7\ndata: {\"a\":1}\n\nid:8\r\ndata:x\r\ndata: y\r\n\r\nretry: 5\nid: 9\n\nevent: too-slow\ndata: {}\n\nid: 10\ndata: cut";
        let right = [
            ("7", "", "{\"a\":1}"),
            ("8", "", "x\ny"),
            ("", "too-slow", "{}"),
        ];
        let right = right.map(|(id, name, data)| (id.to_owned(), name.to_owned(), data.to_owned()));
        for cut in 0..text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(all(&[one, other]).unwrap(), right, "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&bytes).unwrap(), right);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_kept() {
        for text in [
            "data: 123456789012345678901\n\n".to_owned(),
            "data: 1234567890\ndata: 12345678901\n\n".to_owned(),
            format!("id: {}\n", "1".repeat(65)),
            ":".repeat(100),
        ] {
            assert!(all(&[text.as_bytes()]).is_err(), "{text}");
        }
        assert!(all(&[b"id: \xff\n"]).is_err());
        assert_eq!(all(&[b"data: 12345678901234567890\n\n"]).unwrap().len(), 1);
    }
}
