//! The index of a journal: where each report is, by feed, number and start.
//!
//! Invariant: the numbers and the starts of a feed increase, and each report continues the one before it, unless a line between
//! them was left out, or a number is missing. So two chains are never served as one. 20 bytes a report, 4 more for a published one, and 16 for each gap
//! in the numbers and for each change of keys. A position counts the reports of a feed in the journal from 0.

use super::scan::{Handover, Head, Tip};
use rsoracle_proof::limits::FEEDS_MAX;

/// Digits of the name of a chain.
pub(super) const CHAIN_DIGITS: usize = 16;

/// A change of the aggregator's key.
#[derive(Clone, Copy, Debug)]
struct Change {
    offset: u64,
    /// The position of the report after it.
    before: u32,
    /// Bytes of its line without the newline.
    length: u32,
}

/// A place between the records of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The position of the next report.
    pub(super) report: usize,
    /// How many changes of keys are before it.
    pub(super) changes: usize,
}

/// A record of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The report at a position.
    Report(usize),
    /// A change of keys, counted from 0.
    Change(usize),
}

/// The reports of one feed.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Its name.
    pub(super) name: String,
    offsets: Vec<u64>,
    starts_us: Vec<u64>,
    /// Bytes of each line without its newline.
    lengths: Vec<u32>,
    /// The positions of the published reports.
    published: Vec<u32>,
    changes: Vec<Change>,
    /// Where numbers begin that have no gap: number and position.
    runs: Vec<(u64, u32)>,
    /// How many reports there are of each decision, in the order of their codes.
    pub(super) decisions: [u64; 5],
    /// Position of the first report whose line is still there.
    kept: usize,
    /// How many changes of keys are no longer there.
    kept_changes: usize,
    /// Changes whenever another chain begins.
    pub(super) generation: u64,
    /// The signatures of the first and the last record.
    first: Tip,
    last: Tip,
    /// The last signature of another chain, whose reports are left out.
    other: Option<Tip>,
    /// Whether a record may be missing that the next report continues.
    loose: bool,
}

/// What adding a report meant for its feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It follows the one before it.
    Next,
    /// It begins another chain. The reports of the one before are no longer served.
    Anew,
}

/// All feeds of a journal.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The feeds, in the order of their first reports.
    pub(super) feeds: Vec<Feed>,
}

impl Index {
    /// Adds a report whose line begins at `offset` and has `length` bytes. Returns the place of its feed, or why it does not
    /// belong there.
    pub(super) fn add(
        &mut self,
        head: &Head,
        offset: u64,
        length: usize,
    ) -> Result<(usize, Added), &'static str> {
        let known = self.feeds.iter().position(|feed| feed.name == head.feed);
        if known.is_none() && self.feeds.len() >= FEEDS_MAX {
            return Err("it is of one feed too many");
        }
        let at = known.unwrap_or(self.feeds.len());
        if known.is_none() {
            self.feeds.push(Feed {
                name: head.feed.to_owned(),
                ..Feed::default()
            });
        }
        let added = self.feeds[at].add(head, offset, length)?;
        Ok((at, added))
    }

    /// Adds a change of keys. Returns whether it is of a feed that is known, or why it does not belong there.
    pub(super) fn hand_over(
        &mut self,
        change: &Handover,
        offset: u64,
        length: usize,
    ) -> Result<bool, &'static str> {
        let known = self.find(change.feed);
        let added = known.map(|at| self.feeds[at].hand_over(change, offset, length));
        added.transpose().map(|added| added.is_some())
    }

    /// A line was left out that may be of any feed.
    pub(super) fn loosen(&mut self) {
        for feed in &mut self.feeds {
            feed.loose = true;
        }
    }

    /// The lines before `offset` are no longer there.
    pub(super) fn keep_from(&mut self, offset: u64) {
        for feed in &mut self.feeds {
            feed.kept = feed.offsets.partition_point(|begin| *begin < offset);
            let before = |change: &Change| change.offset < offset;
            feed.kept_changes = feed.changes.partition_point(before);
        }
    }

    /// The place of a feed.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.feeds.iter().position(|feed| feed.name == name)
    }
}

impl Feed {
    fn add(&mut self, head: &Head, offset: u64, length: usize) -> Result<Added, &'static str> {
        let length = u32::try_from(length).map_err(|_| "it is too long")?;
        let begun = self.len() > 0;
        let added = match head.number {
            1 if begun && self.first != head.tip => Added::Anew,
            _ => Added::Next,
        };
        if added == Added::Anew {
            *self = Feed {
                name: std::mem::take(&mut self.name),
                generation: self.generation + 1,
                other: Some(self.last),
                ..Feed::default()
            };
        } else if begun {
            self.check(head)?;
        }
        let position = u32::try_from(self.len()).map_err(|_| "it is one report too many")?;
        if self
            .last_number()
            .is_none_or(|last| last + 1 != head.number)
        {
            self.runs.push((head.number, position));
        }
        if position == 0 {
            self.first = head.tip;
        }
        (self.last, self.loose) = (head.tip, false);
        self.offsets.push(offset);
        self.starts_us.push(head.start_us);
        self.lengths.push(length);
        if head.decision.publishes() {
            self.published.push(position);
        }
        self.decisions[usize::from(head.decision.code()) - 1] += 1;
        Ok(added)
    }

    fn hand_over(
        &mut self,
        change: &Handover,
        offset: u64,
        length: usize,
    ) -> Result<(), &'static str> {
        let length = u32::try_from(length).map_err(|_| "it is too long")?;
        let before = u32::try_from(self.len()).map_err(|_| "it is one report too many")?;
        if self.other == Some(change.previous) {
            self.other = Some(change.tip);
            return Err("it continues a chain that another one has replaced");
        }
        if self.last != change.previous && !self.loose {
            return Err("it does not continue the record before it");
        }
        (self.last, self.loose) = (change.tip, false);
        self.changes.push(Change {
            offset,
            before,
            length,
        });
        Ok(())
    }

    /// Whether a report may follow the last one; why not.
    fn check(&mut self, head: &Head) -> Result<(), &'static str> {
        let last = self.last_number().unwrap_or(0);
        let continues = head.previous == Some(self.last);
        if !continues && head.previous.is_some() && head.previous == self.other {
            self.other = Some(head.tip);
            return Err("it continues a chain that another one has replaced");
        }
        if self.starts_us.last().is_some_and(|us| *us >= head.start_us) {
            return Err("it starts no later than a report before it");
        }
        if head.number <= last {
            return Err("its number was there before");
        }
        if !continues && head.number == last + 1 && !self.loose {
            self.other = Some(head.tip);
            return Err("it does not continue the report before it");
        }
        Ok(())
    }

    /// The first bytes of the signature of the first report, by which this chain is told from others.
    pub(super) fn chain(&self) -> String {
        format!("{:016x}", self.first >> 64)
    }

    /// How many reports there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The position of the first report whose line is still there.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// Whether what comes next at a place is no longer there.
    pub(super) fn is_lost(&self, place: Cursor) -> bool {
        place.report < self.kept || place.changes < self.kept_changes
    }

    /// Whether the line of a record is still there.
    pub(super) fn has(&self, record: Record) -> bool {
        match record {
            Record::Report(at) => at >= self.kept,
            Record::Change(at) => at >= self.kept_changes,
        }
    }

    /// Where the line of a record is: offset, and bytes without the newline.
    pub(super) fn line(&self, record: Record) -> Option<(u64, usize)> {
        match record {
            Record::Report(at) => Some((*self.offsets.get(at)?, self.lengths[at] as usize)),
            Record::Change(at) => {
                let change = self.changes.get(at)?;
                Some((change.offset, change.length as usize))
            }
        }
    }

    /// The first change of keys that is not before the report before this one.
    fn first_change(&self, report: usize) -> usize {
        let before = |change: &Change| (change.before as usize) < report;
        self.changes.partition_point(before)
    }

    /// The place before the report at a position and, as far as they are still there, the changes of keys right before it.
    pub(super) fn before(&self, report: usize) -> Cursor {
        let changes = self.first_change(report).max(self.kept_changes);
        Cursor { report, changes }
    }

    /// The place before the report at a position, after the changes of keys right before it.
    pub(super) fn at(&self, report: usize) -> Cursor {
        let changes = self.first_change(report + 1).max(self.kept_changes);
        Cursor { report, changes }
    }

    /// The same after so many of these changes; None if there are fewer.
    pub(super) fn after(&self, report: usize, count: usize) -> Option<Cursor> {
        let changes = self.first_change(report).checked_add(count)?;
        let there = changes <= self.first_change(report + 1);
        let changes = changes.max(self.kept_changes);
        there.then_some(Cursor { report, changes })
    }

    /// The record at a place, and the place after it; None at the end.
    pub(super) fn next(&self, place: Cursor) -> Option<(Record, Cursor)> {
        let Cursor { report, changes } = place;
        let change = self.changes.get(changes);
        if change.is_some_and(|change| change.before as usize <= report) {
            let changes = changes + 1;
            return Some((Record::Change(changes - 1), Cursor { report, changes }));
        }
        let report = report + 1;
        (report <= self.len()).then_some((Record::Report(report - 1), Cursor { report, changes }))
    }

    /// The id of a record's event: its chain and its number or, for a change of keys, the number of the report before it and how
    /// many changes there are since that.
    pub(super) fn id(&self, record: Record) -> Option<String> {
        let (report, count) = match record {
            Record::Report(at) => (at, String::new()),
            Record::Change(at) => {
                let before = self.changes.get(at)?.before as usize;
                let count = at + 1 - self.first_change(before);
                (before.checked_sub(1)?, format!(".{count}"))
            }
        };
        let (chain, number) = (self.chain(), self.number(report)?);
        Some(format!("{chain}-{number}{count}"))
    }

    /// The start of the round at a position.
    pub(super) fn start_us(&self, position: usize) -> Option<u64> {
        self.starts_us.get(position).copied()
    }

    /// The number of the report at a position.
    pub(super) fn number(&self, position: usize) -> Option<u64> {
        if position >= self.len() {
            return None;
        }
        let run = self
            .runs
            .partition_point(|(_, begin)| *begin as usize <= position);
        let (number, begin) = self.runs[run.checked_sub(1)?];
        Some(number + (position - begin as usize) as u64)
    }

    /// The same; after the last report, the number after its.
    pub(super) fn number_or_next(&self, position: usize) -> u64 {
        let next = || self.last_number().map_or(0, |last| last + 1);
        self.number(position).unwrap_or_else(next)
    }

    /// The first number that is still there.
    pub(super) fn first_number(&self) -> Option<u64> {
        self.number(self.kept)
    }

    /// The last number.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.number(self.len().checked_sub(1)?)
    }

    /// The position of the first report that is still there and whose number is at least this; how many there are if there is none.
    pub(super) fn at_or_after(&self, number: u64) -> usize {
        self.any_at_or_after(number).max(self.kept)
    }

    fn any_at_or_after(&self, number: u64) -> usize {
        let Some(run) = self
            .runs
            .partition_point(|(first, _)| *first <= number)
            .checked_sub(1)
        else {
            return 0;
        };
        let (first, begin) = self.runs[run];
        let next = self
            .runs
            .get(run + 1)
            .map_or(self.len(), |(_, begin)| *begin as usize);
        let past = usize::try_from(number - first).unwrap_or(usize::MAX);
        next.min((begin as usize).saturating_add(past))
    }

    /// The position of the report with this number.
    pub(super) fn position(&self, number: u64) -> Option<usize> {
        let position = self.at_or_after(number);
        (self.number(position) == Some(number)).then_some(position)
    }

    /// The position of a published report, counted back from the newest.
    pub(super) fn newest_published(&self, back: usize) -> Option<usize> {
        let newest = self.published.iter().rev();
        let mut newest = newest.map(|position| *position as usize);
        newest.nth(back).filter(|position| *position >= self.kept)
    }

    /// The position of the newest published report whose round started at this time or before.
    pub(super) fn published_at(&self, us: u64) -> Option<usize> {
        let before = |position: &u32| self.starts_us[*position as usize] <= us;
        let count = self.published.partition_point(before);
        let position = self.published[count.checked_sub(1)?] as usize;
        Some(position).filter(|position| *position >= self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsoracle_proof::publish::Decision;

    fn head(number: u64, start_us: u64, decision: Decision) -> Head<'static> {
        Head {
            number,
            feed: "BTC/USD",
            decision,
            start_us,
            previous: Some(u128::from(number) - 1).filter(|_| number > 1),
            tip: u128::from(number),
        }
    }

    fn of(numbers: &[u64]) -> Index {
        let mut index = Index::default();
        for (at, number) in (0..).zip(numbers) {
            let decision = match number % 3 {
                0 => Decision::NoQuorum,
                _ => Decision::Published,
            };
            let added = index.add(&head(*number, 100 + 10 * at, decision), 1000 * at, 50);
            assert_eq!(added, Ok((0, Added::Next)));
        }
        index
    }

    #[test]
    fn reports_are_found_by_number_start_and_position() {
        let numbers = [4, 5, 6, 9, 10, 20];
        let index = of(&numbers);
        let feed = &index.feeds[0];
        assert_eq!(
            (feed.first_number(), feed.last_number()),
            (Some(4), Some(20))
        );
        for number in 0..30 {
            let position = numbers.iter().position(|one| *one == number);
            assert_eq!(feed.position(number), position, "{number}");
            let from = numbers.iter().position(|one| *one >= number);
            assert_eq!(feed.at_or_after(number), from.unwrap_or(6), "{number}");
        }
        for (position, number) in numbers.into_iter().enumerate() {
            assert_eq!(feed.number(position), Some(number));
            let record = Record::Report(position);
            assert_eq!(feed.line(record), Some((1000 * position as u64, 50)));
        }
        assert_eq!((feed.number(6), feed.line(Record::Report(6))), (None, None));
        // 6 and 9 are not published.
        for (us, found) in [
            (99, None),
            (100, Some(0)),
            (139, Some(1)),
            (140, Some(4)),
            (999, Some(5)),
        ] {
            assert_eq!(feed.published_at(us), found, "{us}");
        }
        assert_eq!(feed.newest_published(0), Some(5));
        assert_eq!(feed.decisions, [4, 0, 2, 0, 0]);
        assert_eq!(feed.at_or_after(u64::MAX), 6);
    }

    #[test]
    fn what_does_not_follow_is_refused_and_number_one_begins_anew() {
        let mut index = of(&[1, 2, 3]);
        // The first report again is no other chain.
        for (number, start_us) in [(4, 120), (4, 0), (3, 500), (2, 500), (1, 110), (1, 500)] {
            let head = head(number, start_us, Decision::Published);
            assert!(index.add(&head, 0, 1).is_err(), "{number} {start_us}");
        }
        // Another chain may begin before the end of this one.
        let anew = Head {
            tip: 100,
            ..head(1, 110, Decision::Published)
        };
        assert_eq!(index.add(&anew, 9, 1), Ok((0, Added::Anew)));
        assert_eq!(index.feeds[0].generation, 1);
        assert!(
            index.feeds[0].chain().ends_with('0'),
            "of another first report"
        );
        assert_eq!(index.feeds[0].len(), 1);
        assert_eq!(index.feeds[0].decisions, [1, 0, 0, 0, 0]);
        assert_eq!(index.feeds[0].name, "BTC/USD");
        // What continues the chain before is left out, now and later.
        for number in [4, 5] {
            let old = head(number, 500 + number, Decision::Published);
            let why = index.add(&old, 9, 1).unwrap_err();
            assert!(why.contains("another one has replaced"), "{why}");
        }
    }

    #[test]
    fn a_report_continues_the_one_before_it_unless_a_line_was_left_out() {
        let mut index = of(&[1, 2]);
        let fork = |number: u64| Head {
            previous: Some(1_000 + u128::from(number)),
            tip: 1_001 + u128::from(number),
            ..head(number, 1_000 + number, Decision::Published)
        };
        for number in [3, 4, 5] {
            assert!(index.add(&fork(number), 0, 1).is_err(), "{number}");
        }
        assert!(index.add(&head(3, 130, Decision::Published), 0, 1).is_ok());
        index.loosen();
        assert!(index.add(&fork(4), 0, 1).is_ok());
        // A number that is missing is a gap.
        assert!(
            index
                .add(&head(9, 2_000, Decision::Published), 0, 1)
                .is_ok()
        );
        assert_eq!(index.feeds[0].generation, 0);
    }

    #[test]
    fn changes_of_keys_have_their_places_between_the_reports() {
        let mut index = of(&[1, 2]);
        let change = |previous: u128, tip: u128| Handover {
            feed: "BTC/USD",
            previous,
            tip,
        };
        // What continues nothing is left out, and what is of an unknown feed is passed over.
        assert!(index.hand_over(&change(1, 50), 7, 1).is_err());
        let of_other = Handover {
            feed: "ETH/USD",
            ..change(2, 50)
        };
        assert_eq!(index.hand_over(&of_other, 7, 1), Ok(false));
        assert_eq!(index.hand_over(&change(2, 50), 7, 1), Ok(true));
        assert_eq!(index.hand_over(&change(50, 51), 8, 2), Ok(true));
        let third = |previous| Head {
            previous: Some(previous),
            ..head(3, 500, Decision::Published)
        };
        let early = Head {
            tip: 1_003,
            ..third(2)
        };
        assert!(index.add(&early, 9, 3).is_err());
        assert!(index.add(&third(51), 9, 3).is_ok());
        assert_eq!(index.hand_over(&change(3, 52), 10, 4), Ok(true));
        let feed = &index.feeds[0];
        let chain = feed.chain();
        let mut place = feed.before(0);
        let mut all = Vec::new();
        while let Some((record, next)) = feed.next(place) {
            let id = feed.id(record).unwrap();
            all.push((feed.line(record).unwrap().0, id.replace(&chain, "c")));
            place = next;
        }
        let right = [
            (0, "c-1"),
            (1000, "c-2"),
            (7, "c-2.1"),
            (8, "c-2.2"),
            (9, "c-3"),
            (10, "c-3.1"),
        ];
        assert_eq!(all, right.map(|(offset, id)| (offset, id.to_owned())));
        for (report, before, at) in [(0, 0, 0), (1, 0, 0), (2, 0, 2), (3, 2, 3)] {
            assert_eq!(feed.before(report).changes, before, "{report}");
            assert_eq!(feed.at(report).changes, at, "{report}");
        }
        let anew = Head {
            tip: 100,
            ..head(1, 110, Decision::Published)
        };
        assert_eq!(index.add(&anew, 9, 1), Ok((0, Added::Anew)));
        assert_eq!(index.feeds[0].before(1).changes, 0);
        // The chain before goes on, and is left out.
        assert!(index.hand_over(&change(52, 53), 11, 1).is_err());
        assert!(index.add(&third(53), 9, 3).is_err());
        assert_eq!(index.feeds[0].len(), 1);
    }

    #[test]
    fn feeds_have_numbers_of_their_own_and_are_bounded() {
        let mut index = of(&[1, 2]);
        let names: Vec<String> = (1..=FEEDS_MAX).map(|n| format!("F{n}/USD")).collect();
        for (at, name) in (1..).zip(&names) {
            let head = Head {
                feed: name,
                ..head(1, 50, Decision::Published)
            };
            let added = index.add(&head, 0, 1);
            assert_eq!(added.is_ok(), at < FEEDS_MAX, "{name}");
        }
        assert_eq!(index.find("F3/USD"), Some(3));
        assert_eq!(index.find("F64/USD"), None);
    }
}
