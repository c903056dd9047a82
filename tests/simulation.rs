//! A simulation of rounds: collectors that are honest, lie, die or repeat themselves, and strangers that replay and guess, in
//! any order and at any time. Everything follows from a seed, in virtual time: no processes, sockets or clocks.
//!
//! One seed makes one chain of one to four consecutive rounds. After each round, the library's outcome is compared with that
//! of an independent oracle (`oracle`), and the verifier checks the round's report. For half of the rounds, the outcome is
//! also compared with that of the same deliveries in another order.
//!
//! `RSORACLE_SIMULATION_ROUNDS` sets the number of rounds (default 100,000). A failure names its seed:
//! `RSORACLE_SIMULATION_SEED=… cargo test --test simulation -- --nocapture` repeats that chain alone and prints its schedule.

#[path = "simulation/chain.rs"]
mod chain;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "simulation/strangers.rs"]
mod strangers;

use chain::{Chain, Verifiers};
use chance::Chance;
use oracle::Verdict;
use rsoracle::wire::Sample;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::{Observed, Round, Standing};
use schedule::{Delivery, Frame, KeyRing, Letter, Role, Schedule};
use stage::Stage;
use std::collections::BTreeSet;

const ROUNDS: u64 = 100_000;
/// With at least this many rounds, everything that may happen must have happened.
const ROUNDS_TELLING: u64 = 5_000;

// Two tests, so that they can use two cores: one takes the even seeds, the other the odd ones.

#[test]
fn every_round_comes_to_what_its_honest_collectors_make_of_it() {
    simulate(0);
}

#[test]
fn every_other_round_does_so_too() {
    simulate(1);
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

fn simulate(half: u64) {
    let keys = KeyRing::new();
    let mut tally = Tally::default();
    if let Some(seed) = number("RSORACLE_SIMULATION_SEED") {
        if seed % 2 == half {
            play_chain(seed, &keys, &mut tally, true);
        }
        return;
    }
    let rounds = number("RSORACLE_SIMULATION_ROUNDS").unwrap_or(ROUNDS) / 2;
    let mut seed = half;
    while tally.rounds < rounds {
        play_chain(seed, &keys, &mut tally, false);
        seed += 2;
    }
    println!("{tally:?}");
    if rounds >= ROUNDS_TELLING {
        tally.is_telling();
    }
}

/// Prints the seed if its chain fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "RSORACLE_SIMULATION_SEED={} cargo test --test simulation -- --nocapture plays this chain again",
                self.0
            );
        }
    }
}

fn play_chain(seed: u64, keys: &KeyRing, tally: &mut Tally, shown: bool) {
    let _replay = Replay(seed);
    let mut stage = Stage::new(Chance::new(seed), keys);
    let mut chain = Chain::new(&mut stage.chance);
    for _ in 0..stage.chance.within(1, 4) {
        let schedule = stage.round();
        if shown {
            println!("{schedule}");
        }
        let (round, refused) = play_round(&schedule, &mut stage.chance, tally);
        let decision = chain.append(
            &mut stage.chance,
            keys,
            &mut tally.verifiers,
            round,
            refused,
        );
        tally.decisions.insert(decision);
    }
    if stage.chance.percent(10) {
        chain.tamper_with_order(&mut stage.chance, keys, &mut tally.verifiers);
    }
}

/// Plays one round and checks it. Plays half of the rounds a second time, in another order.
fn play_round(schedule: &Schedule, chance: &mut Chance, tally: &mut Tally) -> (Round, Refused) {
    let mut play = Play::new(schedule);
    let mut delivered: Vec<&Delivery> = Vec::new();
    assert_eq!(
        play.round.deadline_us(),
        schedule.deadline_us(),
        "the deadline"
    );
    for delivery in &schedule.deliveries {
        if delivery.at_us > schedule.deadline_us()
            || schedule.ends_early && play.all_answered(schedule)
        {
            break;
        }
        play.deliver(delivery);
        delivered.push(delivery);
    }
    play.end();
    let verdict = oracle::judge(schedule, &delivered);
    let outcome = play.round.outcome();
    assert_eq!(outcome, verdict.outcome, "the outcome");
    let bits = |price: Option<f64>| price.map(f64::to_bits);
    assert_eq!(
        bits(outcome.price),
        bits(verdict.outcome.price),
        "the price's bits"
    );
    for (slot, answered) in verdict.answered.iter().enumerate() {
        assert_eq!(
            play.round.answered(slot as u16),
            *answered,
            "slot {slot} answered"
        );
    }
    within_honest_prices(schedule, &verdict, outcome.price);
    honest_ones_count(schedule, &outcome.standings);
    nothing_foreign_is_held(schedule, &play.round, &delivered);
    if chance.percent(50) {
        let mut again = Play::new(schedule);
        for delivery in reordered(&delivered, chance) {
            again.deliver(delivery);
        }
        let other = again.round.outcome();
        assert_eq!(other, outcome, "the outcome in another order");
    }
    tally.count(schedule, &outcome.standings, &play.refused);
    (play.round, play.refused)
}

/// The aggregator's part: hands deliveries to a round, and keeps observations that arrive before their samples.
struct Play {
    round: Round,
    waiting: Vec<(u16, [u8; Observation::BYTES])>,
    refused: Refused,
}

impl Play {
    fn new(schedule: &Schedule) -> Play {
        Play {
            round: Round::new((*schedule.terms).clone(), schedule.start_us),
            waiting: Vec::new(),
            refused: Refused::new(),
        }
    }

    fn refuse(&mut self, reason: Reject) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let slot = delivery.slot;
        match &delivery.frame {
            Frame::Answer(Letter { bytes, .. }) => self.observe(slot, *bytes),
            Frame::Sample(bytes) => {
                let sample = Sample::decode(bytes);
                if let Err(reason) = sample
                    .and_then(|sample| self.round.sample(slot, sample.start_us, &sample.record))
                {
                    self.refuse(reason);
                    return;
                }
                let (now, later) = std::mem::take(&mut self.waiting)
                    .into_iter()
                    .partition(|(of, _)| *of == slot);
                self.waiting = later;
                for (slot, bytes) in Vec::from_iter::<Vec<_>>(now) {
                    self.observe(slot, bytes);
                }
            }
        }
    }

    fn observe(&mut self, slot: u16, bytes: [u8; Observation::BYTES]) {
        let before = self.round.answered(slot);
        match self.round.observe(slot, &bytes) {
            Ok(Observed::TooEarly) => self.waiting.push((slot, bytes)),
            Ok(Observed::Accepted) => {
                assert!(
                    !before && self.round.answered(slot),
                    "only the first answer counts"
                );
            }
            Err(reason) => self.refuse(reason),
        }
        assert!(
            self.round.answered(slot) || !before,
            "an answer is never taken back"
        );
    }

    fn end(&mut self) {
        for _ in 0..self.waiting.len() {
            self.refuse(Reject::SamplesMissing);
        }
    }

    /// Whether every collector that takes part has answered.
    fn all_answered(&self, schedule: &Schedule) -> bool {
        let mut came = schedule
            .roles
            .iter()
            .enumerate()
            .filter(|(_, role)| **role != Role::Silent);
        came.all(|(slot, _)| self.round.answered(slot as u16))
    }
}

/// Asserts that with at most f liars, the price lies within the honest collectors' prices.
fn within_honest_prices(schedule: &Schedule, verdict: &Verdict, price: Option<f64>) {
    let (mut lowest, mut highest, mut liars) = (f64::INFINITY, 0.0f64, 0);
    for one in &verdict.counted {
        if schedule.roles[usize::from(one.slot)].is_honest() {
            lowest = lowest.min(one.price);
            highest = highest.max(one.price);
        } else {
            liars += 1;
        }
    }
    let prices = verdict.counted.len() as u16;
    if let Some(price) = price {
        assert!(prices >= schedule.terms.quorum, "a price needs the quorum");
        let within = (lowest..=highest).contains(&price);
        assert!(
            liars > schedule.terms.f || within,
            "{price} of honest {lowest} to {highest}"
        );
    }
}

/// Asserts that an honest collector whose key is known counts with exactly its own price, whatever others send.
fn honest_ones_count(schedule: &Schedule, standings: &[Standing]) {
    for (slot, role) in schedule.roles.iter().enumerate() {
        if !role.counts() || schedule.keys[slot].is_none() {
            continue;
        }
        let (bits, _) = schedule.made[slot].expect("it sent something");
        match standings[slot] {
            Standing::Used(price) | Standing::Trimmed(price) => {
                assert_eq!(price.to_bits(), bits, "slot {slot}, its own price");
            }
            Standing::Abstained(_) => {
                let abstains = bits == oracle::TOO_FEW_BITS || *role == Role::Refuses;
                assert!(abstains, "slot {slot} gave a price");
            }
            other => panic!("slot {slot} is honest, but {other:?}"),
        }
    }
}

/// Asserts that the round holds only observations signed by the slot's own key for this round, and that no key has two slots.
fn nothing_foreign_is_held(schedule: &Schedule, round: &Round, delivered: &[&Delivery]) {
    let mut keys = BTreeSet::new();
    for (slot, part) in round.parts.iter().enumerate() {
        for held in [part.observation, part.equivocated].into_iter().flatten() {
            let bytes = held.encode();
            let is_source = |delivery: &&&Delivery| match &delivery.frame {
                Frame::Answer(letter) => {
                    letter.bytes == bytes
                        && letter.signed.as_ref().is_some_and(|signed| {
                            Some(signed.key) == schedule.keys[slot]
                                && usize::from(signed.slot) == slot
                                && signed.start_us == schedule.start_us
                                && signed.terms == schedule.terms
                        })
                }
                Frame::Sample(_) => false,
            };
            assert!(
                delivered.iter().any(|d| is_source(&d)),
                "slot {slot} holds {held:?}"
            );
        }
        if part.observation.is_some() {
            assert!(
                keys.insert(schedule.keys[slot]),
                "slot {slot}: its key has two slots"
            );
        }
    }
}

/// The same deliveries in another order, except that the samples of each collector stay in order.
fn reordered<'a>(delivered: &[&'a Delivery], chance: &mut Chance) -> Vec<&'a Delivery> {
    let mut places: Vec<usize> = (0..delivered.len()).collect();
    chance.shuffle(&mut places);
    let sampled = |at: usize| match delivered[at].frame {
        Frame::Sample(_) => Some(delivered[at].slot),
        Frame::Answer(_) => None,
    };
    let slots: BTreeSet<u16> = (0..delivered.len()).filter_map(sampled).collect();
    for slot in slots {
        let mut of_slot: Vec<usize> = places
            .iter()
            .copied()
            .filter(|at| sampled(*at) == Some(slot))
            .collect();
        of_slot.sort_unstable_by(|a, b| b.cmp(a));
        for place in &mut places {
            if sampled(*place) == Some(slot) {
                *place = of_slot.pop().expect("as many as there were");
            }
        }
    }
    places.into_iter().map(|at| delivered[at]).collect()
}

/// What happened in all rounds, to check that everything that may happen did.
#[derive(Default)]
struct Tally {
    rounds: u64,
    roles: BTreeSet<Role>,
    standings: BTreeSet<&'static str>,
    decisions: BTreeSet<u16>,
    refused: Refused,
    whats: BTreeSet<&'static str>,
    verifiers: Verifiers,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lines, chains) = (
            self.verifiers.lines_tampered,
            self.verifiers.chains_tampered,
        );
        write!(
            f,
            "{} rounds; {lines} lines and {chains} chains tampered with; refused {:?}",
            self.rounds, self.refused
        )
    }
}

impl Tally {
    fn count(&mut self, schedule: &Schedule, standings: &[Standing], refused: &Refused) {
        self.rounds += 1;
        self.roles.extend(&schedule.roles);
        self.whats
            .extend(schedule.deliveries.iter().map(|delivery| delivery.what));
        self.standings
            .extend(standings.iter().map(|standing| match standing {
                Standing::Silent => "silent",
                Standing::Used(_) => "used",
                Standing::Trimmed(_) => "trimmed",
                Standing::Abstained(_) => "abstained",
                Standing::Equivocated => "equivocated",
            }));
        for (reason, count) in refused {
            *self.refused.entry(*reason).or_default() += count;
        }
    }

    /// Asserts that every role was played, every decision taken, and every rule of a round broken.
    fn is_telling(&self) {
        assert_eq!(self.roles.len(), Role::ALL.len(), "{:?}", self.roles);
        assert_eq!(self.standings.len(), 5, "{:?}", self.standings);
        assert_eq!(self.decisions.len(), 5, "{:?}", self.decisions);
        assert_eq!(self.whats.len(), 12, "{:?}", self.whats);
        let rules = Reject::SampleRound.code()..=Reject::Equivocation.code();
        for code in rules {
            let reason = Reject::from_code(code).expect("the codes have no gap");
            assert!(
                self.refused.contains_key(&reason),
                "never refused: {reason}"
            );
        }
    }
}
