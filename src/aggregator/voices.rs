//! Merges the collectors' logs: a line that several collectors log in the same words is shown once.
//!
//! Invariant: nothing is lost: repetitions by other collectors are summed up by [`Voices::summary`]. Memory is bounded:
//! beyond [`TEXTS_MAX`] different texts, every line is shown.

use crate::aggregator::limits::LOG_LINE_BYTES_MAX;
use std::collections::BTreeMap;

/// Most different texts that are remembered.
const TEXTS_MAX: usize = 64;

/// What collectors have logged since the last summary.
#[derive(Default)]
pub struct Voices {
    unfinished: Vec<u8>,
    heard: Vec<(String, Vec<u16>)>,
    /// What each collector logged last.
    pub(crate) last: BTreeMap<u16, String>,
}

impl Voices {
    /// Takes bytes of the children's log, and returns the lines to show.
    pub fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut show = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                if self.unfinished.len() < LOG_LINE_BYTES_MAX {
                    self.unfinished.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.unfinished)).into_owned();
            show.extend(self.line(line));
        }
        show
    }

    /// Returns the line if it is to be shown: unless another collector has logged the same text, and this one has not.
    fn line(&mut self, line: String) -> Option<String> {
        let Some((slot, text)) = spoken(&line) else {
            // Only children write to this log, and none may pose as the aggregator.
            let named = line.starts_with("exchange: ") || line.starts_with("serve: ");
            return Some(if named {
                line
            } else {
                format!("a child: {line}")
            });
        };
        self.last.insert(slot, text.to_owned());
        match self.heard.iter_mut().find(|(heard, _)| heard == text) {
            Some((_, slots)) if slots.contains(&slot) => Some(line),
            Some((_, slots)) => {
                slots.push(slot);
                None
            }
            None => {
                if self.heard.len() < TEXTS_MAX {
                    self.heard.push((text.to_owned(), vec![slot]));
                }
                Some(line)
            }
        }
    }

    /// One line for each text that several collectors logged, with the slots not shown yet. Then everything is forgotten.
    pub fn summary(&mut self) -> Vec<String> {
        let several = |(text, slots): (String, Vec<u16>)| {
            let others = &slots[1..];
            let who = if others.len() == 1 {
                "collector"
            } else {
                "collectors"
            };
            (!others.is_empty())
                .then(|| format!("{who} {} said the same: {text}", slots_text(others)))
        };
        std::mem::take(&mut self.heard)
            .into_iter()
            .filter_map(several)
            .collect()
    }
}

/// The slot and the text of a line like `collector 3: text`.
fn spoken(line: &str) -> Option<(u16, &str)> {
    let (slot, text) = line.strip_prefix("collector ")?.split_once(": ")?;
    Some((slot.parse().ok()?, text))
}

/// Slots as text, with ranges: `0-2, 4`.
pub(crate) fn slots_text(slots: &[u16]) -> String {
    let mut sorted = slots.to_vec();
    sorted.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for slot in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == slot => *last = slot,
            _ => runs.push((slot, slot)),
        }
    }
    let text = |(first, last): (u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_say_is_shown_once_and_summed_up() {
        let mut voices = Voices::default();
        assert_eq!(voices.hear(b"collector 0: no sy"), Vec::<String>::new());
        assert_eq!(
            voices.hear(b"mbol\ncollector 1: no symbol\ncollector 2: other\n"),
            ["collector 0: no symbol", "collector 2: other"]
        );
        assert_eq!(
            voices.hear(b"collector 3: no symbol\ncollector 4: no symbol\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            voices.hear(b"collector 0: no symbol\n"),
            ["collector 0: no symbol"],
            "again, by the same one"
        );
        assert_eq!(
            voices.hear(b"exchange: up\nexchange: up\n"),
            ["exchange: up", "exchange: up"]
        );
        assert_eq!(
            voices.summary(),
            ["collectors 1, 3-4 said the same: no symbol"]
        );
        assert_eq!(voices.summary(), Vec::<String>::new());
    }

    #[test]
    fn no_child_speaks_as_the_aggregator() {
        let mut voices = Voices::default();
        assert_eq!(
            voices.hear(b"aggregator: all is well\n"),
            ["a child: aggregator: all is well"]
        );
        assert_eq!(
            voices.hear(b"thread 'main' panicked\n"),
            ["a child: thread 'main' panicked"]
        );
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut voices = Voices::default();
        voices.hear(&vec![b'x'; 1 << 20]);
        let line = voices.hear(b"\n").remove(0);
        assert_eq!(line.len(), "a child: ".len() + LOG_LINE_BYTES_MAX);
    }
}
