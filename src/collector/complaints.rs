//! What a collector complains of, without filling its log.
//!
//! Invariant: within [`COMPLAINTS_MS`], complaints that differ only in numbers are logged once, and of others at most
//! [`COMPLAINTS_MAX`], whatever the exchange and the aggregator send. The number of those left out is logged later.

use crate::system::exact::shape;
use crate::system::limits::{COMPLAINTS_MAX, COMPLAINTS_MS};
use rsoracle_verify::log;
use std::time::{Duration, Instant};

/// What was complained of lately.
pub(super) struct Complaints {
    role: String,
    /// The last failure to connect, so that the same failure is not logged twice in a row.
    unconnected: String,
    /// What was logged since `since`.
    logged: Vec<String>,
    left_out: u32,
    since: Instant,
}

impl Complaints {
    pub(super) fn new(role: &str) -> Complaints {
        Complaints {
            role: role.to_owned(),
            unconnected: String::new(),
            logged: Vec::new(),
            left_out: 0,
            since: Instant::now(),
        }
    }

    /// A failure to connect: logged, unless it repeats the last one. Attempts back off, so these are few.
    pub(super) fn of_connection(&mut self, text: String) {
        let shape = shape(&text);
        if self.unconnected != shape {
            log::say(&self.role, text);
            self.unconnected = shape;
        }
    }

    /// An attempt to connect succeeded: the next failure is news, whatever it is.
    pub(super) fn connected(&mut self) {
        self.unconnected.clear();
    }

    /// A complaint that may come at any rate: logged if it is news and not one too many.
    pub(super) fn add(&mut self, text: String) {
        if self.is_news(&text) {
            log::say(&self.role, text);
        }
    }

    fn is_news(&mut self, text: &str) -> bool {
        let shape = shape(text);
        let news = !self.logged.contains(&shape) && self.logged.len() < COMPLAINTS_MAX;
        match news {
            true => self.logged.push(shape),
            false => self.left_out = self.left_out.saturating_add(1),
        }
        news
    }

    /// Logs how many complaints were left out, and begins anew, once the time is over.
    pub(super) fn sum_up(&mut self) {
        let past = self.since.elapsed();
        if past < Duration::from_millis(COMPLAINTS_MS) {
            return;
        }
        if self.left_out > 0 {
            let (count, past) = (self.left_out, past.as_secs());
            log::say(
                &self.role,
                format_args!(
                    "left out {count} more lines like those above, logged in the last {past} s"
                ),
            );
        }
        (self.logged, self.left_out) = (Vec::new(), 0);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_numbers_is_news_once_and_there_is_only_so_much_news() {
        let mut complaints = Complaints::new("collector 0");
        assert!(complaints.is_news("sample 3 refused: price 87231.42, after 1.5 s"));
        assert!(!complaints.is_news("sample 12 refused: price 9, after 600 s"));
        assert!(complaints.is_news("sample 3 refused: no price"));
        let letters = ('a'..='z').map(|letter| format!("error {letter}"));
        let news = letters.filter(|text| complaints.is_news(text)).count();
        assert_eq!(news, COMPLAINTS_MAX - 2);
        assert_eq!(complaints.left_out, 26 - news as u32 + 1);
    }
}
