//! What a collector has to say to each of its aggregators, as frames: that it is ready, and the samples and answers of the
//! running round.
//!
//! Invariant: in a round, frames are only added. So whoever knows how many frames an aggregator has got knows which come next.

use super::rosters::{Duty, Task};
use crate::keys::secret::SecretKey;
use crate::system::now::wall_us;
use crate::wire::{DataFrame, Ready, Sample};
use rsoracle_proof::record::{Answer, Observation, Record};
use rsoracle_proof::seal::{ObservationContext, observation_bytes, samples_digest};
use rsoracle_proof::terms::tag;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What there is to say to every aggregator.
pub(super) struct Present {
    pub(super) key: SecretKey,
    /// Its slot in the roster.
    pub(super) slot: u16,
    /// What it does under the newest roster, if there is one under which it can sign.
    task: Option<Rc<Task>>,
    /// The first price of each symbol, once there is one.
    prices: Vec<Option<f64>>,
    /// The *ready* frames, and how often some of them stopped being true: then all are sent again.
    pub(super) ready: Vec<[u8; Ready::BYTES]>,
    pub(super) edition: u64,
    pub(super) running: Option<Running>,
}

/// The round that is running, or was the last to run.
pub(super) struct Running {
    pub(super) start_us: u64,
    /// When the answers are expected.
    pub(super) answer_at: Instant,
    /// When the round ends, and the answers are of no use any more.
    pub(super) end_at: Instant,
    /// How many answers it will have.
    pub(super) answers_due: usize,
    pub(super) samples: Vec<[u8; Sample::BYTES]>,
    pub(super) answers: Vec<[u8; DataFrame::BYTES]>,
}

impl Present {
    pub(super) fn new(key: SecretKey, slot: u16, task: Option<Rc<Task>>) -> Present {
        Present {
            key,
            slot,
            task,
            prices: Vec::new(),
            ready: Vec::new(),
            edition: 0,
            running: None,
        }
    }

    /// Whether there is a first price.
    pub(super) fn is_priced(&self) -> bool {
        self.prices.iter().any(Option::is_some)
    }

    /// Says under which terms this collector signs, from now on.
    pub(super) fn engage(&mut self, task: Option<Rc<Task>>) {
        self.task = task;
        self.renew();
    }

    /// Whether it says that it signs under these terms.
    pub(super) fn is_engaged_by(&self, task: &Rc<Task>) -> bool {
        self.task.as_ref() == Some(task)
    }

    /// Says which symbols have a first price.
    pub(super) fn price(&mut self, prices: &[Option<f64>]) {
        if prices != self.prices {
            self.prices = prices.to_vec();
            self.renew();
        }
    }

    fn renew(&mut self) {
        let ready = |terms_digest, slot, price| {
            let ready = Ready {
                terms_digest,
                slot,
                price,
            };
            ready.encode()
        };
        let of = |duty: &Duty| {
            let price = self.prices.get(duty.symbol).copied()??;
            Some(ready(duty.digest, duty.seat, price))
        };
        let first = self.prices.iter().flatten().next();
        let true_now: Vec<_> = match &self.task {
            Some(task) => task.duties.iter().filter_map(of).collect(),
            // It counts for all feeds.
            None => first
                .map(|price| ready([0; 32], self.slot, *price))
                .into_iter()
                .collect(),
        };
        let before = self.ready.len();
        self.ready.retain(|frame| true_now.contains(frame));
        self.edition += u64::from(self.ready.len() < before);
        for frame in true_now {
            if !self.ready.contains(&frame) {
                self.ready.push(frame);
            }
        }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, task: &Task, start_us: u64) {
        let (now, now_us) = (Instant::now(), wall_us());
        let at = |after_us: u64| {
            let us = (start_us + after_us).saturating_sub(now_us);
            now + Duration::from_micros(us)
        };
        self.running = Some(Running {
            start_us,
            answer_at: at(task.schedule.last_us()),
            end_at: at(task.schedule.length_us()),
            answers_due: task.duties.len(),
            samples: Vec::new(),
            answers: Vec::new(),
        });
    }

    /// Adds a sample of the running round.
    pub(super) fn put(&mut self, duty: &Duty, record: Record) {
        let running = self.running.as_mut().expect("a round is running");
        let sample = Sample {
            tag: tag(&duty.digest),
            start_us: running.start_us,
            record,
        };
        running.samples.push(sample.encode());
    }

    /// Signs the answer that all records of a feed make in the running round, and adds it.
    pub(super) fn answer(
        &mut self,
        duty: &Duty,
        records: &[Record],
        answer: Answer,
        timestamp_us: u64,
    ) {
        let running = self.running.as_mut().expect("a round is running");
        let start_us = running.start_us;
        let context = ObservationContext {
            terms_digest: &duty.digest,
            slot: duty.seat,
            start_us,
            samples_digest: &samples_digest(records),
        };
        let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
        let observation = Observation {
            answer,
            timestamp_us,
            signature: self.key.sign(&bytes),
        };
        let frame = DataFrame {
            tag: tag(&duty.digest),
            start_us,
            observation: observation.encode(),
        };
        running.answers.push(frame.encode());
    }
}
