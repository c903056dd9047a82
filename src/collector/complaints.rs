//! Logs what a collector complains of, without filling its log.
//!
//! Invariant: within [`COMPLAINTS_MS`], complaints that differ only in numbers, or in the feed, are logged once, and at most
//! [`COMPLAINTS_MAX`] in all, whatever the exchange and the aggregator do. The number of those left out is logged later.

use crate::collector::limits::{COMPLAINTS_MAX, COMPLAINTS_MS};
use crate::system::stream::say;
use std::time::{Duration, Instant};

/// What was complained of lately.
pub(super) struct Complaints {
    role: String,
    since: Instant,
    /// What was logged since then, without numbers.
    logged: Vec<String>,
    left_out: u32,
}

impl Complaints {
    pub(super) fn new(role: &str) -> Complaints {
        Complaints {
            role: role.to_owned(),
            since: Instant::now(),
            logged: Vec::new(),
            left_out: 0,
        }
    }

    /// Logs a complaint, if it is news.
    pub(super) fn add(&mut self, text: String) {
        self.about("", "", text);
    }

    /// The same about one of several feeds. `about` begins the line. It does not make the complaint news, and neither does the
    /// feed's symbol in the text: the first feed stands for all.
    pub(super) fn about(&mut self, about: &str, symbol: &str, text: String) {
        let shape = match symbol {
            "" => text.clone(),
            symbol => text.replace(symbol, ""),
        };
        if self.is_news(&shape) {
            say(&self.role, format_args!("{about}{text}"));
        }
    }

    /// Logs what is no complaint.
    pub(super) fn tell(&self, text: &str) {
        say(&self.role, text);
    }

    fn is_news(&mut self, text: &str) -> bool {
        let shape = text.replace(|c: char| c.is_ascii_digit() || matches!(c, '.' | ','), "");
        let news = !self.logged.contains(&shape) && self.logged.len() < COMPLAINTS_MAX;
        match news {
            true => self.logged.push(shape),
            false => self.left_out = self.left_out.saturating_add(1),
        }
        news
    }

    /// Once [`COMPLAINTS_MS`] is over: logs how many were left out, and begins anew.
    pub(super) fn sum_up(&mut self) {
        if self.since.elapsed() >= Duration::from_millis(COMPLAINTS_MS) {
            self.renew();
        }
    }

    /// Logs how many were left out, and begins anew.
    pub(super) fn renew(&mut self) {
        if let Some(text) = self.summary(self.since.elapsed()) {
            say(&self.role, text);
        }
    }

    /// What is logged of the time that has passed, at the beginning of another one.
    fn summary(&mut self, past: Duration) -> Option<String> {
        let (count, past) = (self.left_out, past.as_secs());
        *self = Complaints::new(&self.role);
        (count > 0)
            .then(|| format!("left out {count} more lines like those above in the last {past} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outage_of_many_feeds_is_told_of_the_first() {
        let mut complaints = Complaints::new("collector 0");
        for feed in ["BTC", "ETH", "SOL"] {
            let symbol = format!("{feed}USDT");
            let about = format!("{feed}/USD: ");
            let text = format!(r#"sample 3 refused: refused: {{"symbol":"{symbol}"}}"#);
            complaints.about(&about, &symbol, text);
            complaints.about(&about, &symbol, "abstains: it has no price".to_owned());
        }
        assert_eq!((complaints.logged.len(), complaints.left_out), (2, 4));
    }

    #[test]
    fn what_differs_in_numbers_is_news_once_and_there_is_only_so_much_news() {
        let mut complaints = Complaints::new("collector 0");
        assert!(complaints.is_news("sample 3 refused: price 87231.42, after 1.5 s"));
        assert!(!complaints.is_news("sample 12 refused: price 9, after 600 s"));
        assert!(complaints.is_news("sample 3 refused: no price"));
        let mut letters = ('a'..='z').map(|letter| format!("error {letter}"));
        assert!(
            letters
                .by_ref()
                .take(COMPLAINTS_MAX - 2)
                .all(|text| complaints.is_news(&text))
        );
        assert!(!letters.any(|text| complaints.is_news(&text)));
        assert_eq!(complaints.left_out, 1 + 26 + 2 - COMPLAINTS_MAX as u32);
        let soon = Duration::from_millis(COMPLAINTS_MS);
        complaints.sum_up();
        assert_eq!(complaints.logged.len(), COMPLAINTS_MAX, "too early");
        let counted = "left out 19 more lines like those above in the last 600 s";
        assert_eq!(complaints.summary(soon).as_deref(), Some(counted));
        assert!(complaints.is_news("sample 3 refused: no price"));
        assert_eq!(complaints.summary(soon), None, "nothing was left out");
    }
}
