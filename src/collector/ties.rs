//! What ties a collector to others: the tether to its parent, if it has one, its rosters, and its aggregators.
//!
//! Invariant: nothing here waits, except [`Ties::wait`], [`Ties::connect`] and [`Ties::answered`], for as long as they say.

use super::TURN_EARLY_US;
use super::complaints::Complaints;
use super::present::Present;
use super::rosters::{Duty, Rosters, Task};
use super::tether::Tether;
use super::uplink::Uplink;
use crate::collector::limits::*;
use crate::system::now::wall_us;
use crate::wire::handed::Handed;
use crate::wire::terms;
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Everything that a collector is tied to.
pub(super) struct Ties {
    pub(super) present: Present,
    pub(super) sources: Vec<String>,
    pub(super) tether: Option<Tether>,
    pub(super) rosters: Rosters,
    pub(super) uplinks: Vec<Uplink>,
    pub(super) complaints: Complaints,
}

impl Ties {
    /// Reads and sends what there is. Fails if the parent has ended.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        self.complaints.sum_up();
        let uplinks = self.uplinks.iter_mut();
        uplinks.for_each(|uplink| uplink.complaints.sum_up());
        self.read_tether(Duration::ZERO)?;
        self.sweep();
        Ok(())
    }

    /// Like [`Ties::look`], but also fails if a round begins within `lead_us`: for work that must not delay one. With `None`,
    /// rounds wait.
    pub(super) fn look_before_round(&mut self, lead_us: Option<u64>) -> Result<(), Error> {
        self.look()?;
        match self.left(lead_us).is_zero() {
            true => Err(Error::new("interrupted", "a round is about to begin")),
            false => Ok(()),
        }
    }

    /// The time until `lead_us` before the next round, for connecting to the exchange.
    pub(super) fn left(&self, lead_us: Option<u64>) -> Duration {
        let ends_us = lead_us.zip(self.next_start_us());
        let left_us = ends_us.map(|(lead, start)| start.saturating_sub(wall_us() + lead));
        let most_us = OPEN_MS_MAX * 1_000;
        Duration::from_micros(left_us.map_or(most_us, |us| us.min(most_us)))
    }

    /// Whether the parent has ended.
    pub(super) fn is_over(&self) -> bool {
        self.tether.as_ref().is_some_and(Tether::ended)
    }

    /// Waits up to `patience`; stops early if something is handed down.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        match self.tether {
            Some(_) => self.read_tether(patience),
            None => {
                std::thread::sleep(patience);
                Ok(())
            }
        }
    }

    /// Takes what was handed down; waits up to `patience` for the first of it.
    fn read_tether(&mut self, mut patience: Duration) -> Result<(), Error> {
        while let Some(tether) = &mut self.tether
            && let Some(handed) = tether.read(patience)?
        {
            patience = Duration::ZERO;
            match handed {
                Handed::Aggregator(bytes) => {
                    let key = PublicKey::decode(&bytes).ok_or_else(|| {
                        Error::new("cannot read the tether", "the aggregator's key is no key")
                    })?;
                    self.uplinks.iter_mut().for_each(|uplink| uplink.learn(key));
                }
                Handed::Terms { from_us, feeds } => self.take_terms(from_us, &feeds),
            }
        }
        Ok(())
    }

    fn take_terms(&mut self, from_us: u64, feeds: &[Vec<u8>]) {
        let key = self.present.key.public();
        let wrong = self
            .rosters
            .take(terms::decode(feeds), from_us, &key, &self.sources);
        self.present.engage(self.rosters.newest().cloned());
        for why in wrong {
            let text =
                format!("cannot sign under the roster that 'rsoracle run' handed down: {why}");
            self.complaints.add(text);
        }
    }

    /// Says that this collector signs under the terms of its next round, if those are the next roster's.
    pub(super) fn turn_to(&mut self, task: &Rc<Task>) {
        if self.tether.is_none() && !self.present.is_engaged_by(task) {
            self.present.engage(Some(task.clone()));
            self.uplinks.iter_mut().for_each(Uplink::hurry);
        }
    }

    /// Complains about the feed of a duty.
    pub(super) fn complain(&mut self, duty: &Duty, text: String) {
        let symbol = match duty.about.as_str() {
            "" => "",
            _ => market(&self.sources[duty.symbol]),
        };
        self.complaints.about(&duty.about, symbol, text);
    }

    /// Reads what the aggregators sent, and sends them what there is to say.
    pub(super) fn sweep(&mut self) {
        for uplink in &mut self.uplinks {
            if let Some(text) = uplink.sweep(&self.present) {
                uplink.complaints.add(text);
            }
        }
    }

    /// Opens connections to aggregators that are missing, if there is time before the next instant: that of a sample at
    /// `instant_us`, or the start of the next round. Attempts that instants cut short again and again get more time if there is no
    /// aggregator that the instants could matter to. Where no instant is near, there is time for a slow name server.
    pub(super) fn connect(&mut self, instant_us: Option<u64>) {
        // An aggregator refuses whoever signs under a roster that does not count yet.
        let waits = |from_us| from_us > wall_us() + TURN_EARLY_US;
        if self.tether.is_none() && self.rosters.begins_us().is_some_and(waits) {
            return;
        }
        let next_us = instant_us.or_else(|| self.next_start_us());
        self.uplinks.sort_by_key(Uplink::doubt);
        for index in 0..self.uplinks.len() {
            let none_up = !self.uplinks.iter().any(Uplink::is_up);
            let late = none_up && self.uplinks[index].cut_short > CUT_SHORT_MAX;
            // Before the first price, connecting to the exchange does not wait.
            let long = self.present.is_priced() && (late || instant_us.is_none());
            if let Some(time) = gap(wall_us(), next_us.filter(|_| !late), long) {
                let since = Instant::now();
                self.connect_one(index, time);
                if since.elapsed() > Duration::from_millis(CONNECT_SLICE_MS) {
                    // The others' pings wait.
                    return;
                }
            }
        }
    }

    /// The start of the next round, if there is one.
    fn next_start_us(&self) -> Option<u64> {
        self.rosters.next(wall_us()).map(|(_, start_us)| start_us)
    }

    fn connect_one(&mut self, index: usize, time: Duration) {
        let until = Instant::now() + time;
        let uplink = &mut self.uplinks[index];
        if let Some(text) = uplink.connect(until, &self.present) {
            uplink.complaints.add(text);
        }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, task: &Task, start_us: u64) {
        self.rosters.begin(start_us);
        self.present.begin(task, start_us);
    }

    /// Called once the running round has all answers. An aggregator that has no data connection yet gets one, for which there is
    /// little time if the next round is near.
    pub(super) fn answered(&mut self) {
        let least = Duration::from_micros(GAP_US_MIN);
        self.uplinks.sort_by_key(Uplink::doubt);
        for index in 0..self.uplinks.len() {
            let time = gap(wall_us(), self.next_start_us(), false);
            self.connect_one(index, time.unwrap_or(least));
        }
    }

    /// Called while only replies are missing, of which the first is overdue at `reply_by_us`. An aggregator that has no data
    /// connection for the answers that there are gets one, if there is time.
    pub(super) fn answered_in_part(&mut self, reply_by_us: Option<u64>) {
        let next_us = self.next_start_us().into_iter().chain(reply_by_us).min();
        for index in 0..self.uplinks.len() {
            if self.uplinks[index].lacks_data(&self.present)
                && let Some(time) = gap(wall_us(), next_us, false)
            {
                self.connect_one(index, time);
            }
        }
    }
}

/// The exchange's name of the market of a source.
pub(super) fn market(source: &str) -> &str {
    source.split_once(':').map_or("", |(_, market)| market)
}

/// The time for connecting before the next instant at `next_us`, in microseconds since the Unix epoch; `None` if it is too short
/// to be of use. It is enough for a slow name server only if it is `long`, and there is that much time.
fn gap(now_us: u64, next_us: Option<u64>, long: bool) -> Option<Duration> {
    let left_us = next_us.map_or(u64::MAX, |next| next.saturating_sub(now_us + QUIET_US));
    let long_ms = RESOLVE_MS_MAX + CONNECT_SLICE_MS;
    let most_ms = match long && left_us >= long_ms * 1_000 {
        true => long_ms,
        false => CONNECT_SLICE_MS,
    };
    (left_us >= GAP_US_MIN).then(|| Duration::from_micros(left_us.min(most_ms * 1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_before_the_next_instant_becomes_quiet() {
        let gap_us = |next_us| gap(1_000_000, next_us, false).map(|gap| gap.as_micros() as u64);
        assert_eq!(gap_us(None), Some(CONNECT_SLICE_MS * 1_000));
        assert_eq!(gap_us(Some(u64::MAX)), Some(CONNECT_SLICE_MS * 1_000));
        let first = 1_000_000 + QUIET_US + GAP_US_MIN;
        assert_eq!(gap_us(Some(first)), Some(GAP_US_MIN));
        assert_eq!(gap_us(Some(first - 1)), None);
        assert_eq!(gap_us(Some(0)), None);
        let long_ms = RESOLVE_MS_MAX + CONNECT_SLICE_MS;
        let long_us = 1_000_000 + QUIET_US + long_ms * 1_000;
        for (next_us, long, ms) in [
            (None, true, long_ms),
            (Some(long_us), true, long_ms),
            (Some(long_us - 1), true, CONNECT_SLICE_MS),
            (Some(long_us), false, CONNECT_SLICE_MS),
        ] {
            let gap = gap(1_000_000, next_us, long);
            assert_eq!(gap, Some(Duration::from_millis(ms)), "{next_us:?}");
        }
    }
}
