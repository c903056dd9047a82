//! A simulation of rounds: collectors that are honest, lie, die, reconnect or repeat themselves, and strangers that replay and
//! guess, in any order and at any time. Everything follows from a seed, in virtual time: no processes, sockets or clocks.
//!
//! One seed makes one chain of one to four consecutive rounds, as their schedules give them. After each round, the library's outcome is compared with that
//! of an independent oracle (`oracle`), and the verifier checks the round's report. For half of the rounds, the outcome is
//! also compared with that of the same deliveries in another order.
//!
//! `RSORACLE_SIMULATION_ROUNDS` sets the number of rounds (default 100,000). A failure names its seed:
//! `RSORACLE_SIMULATION_SEED=… cargo test --test simulation -- --nocapture` repeats that chain alone and prints its scripts.

#[path = "simulation/chain.rs"]
mod chain;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/lives.rs"]
mod lives;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/stage.rs"]
mod stage;
#[path = "simulation/strangers.rs"]
mod strangers;

use chain::{Chain, Verifiers};
use chance::Chance;
use lives::{Lived, live};
use oracle::Verdict;
use rsoracle::wire::{DataFrame, Sample};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::{Round, Standing};
use rsoracle_proof::seal::samples_digest;
use script::{CONNECTIONS, Delivery, Frame, KeyRing, Role, Script, Signed};
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

#[test]
fn a_key_signs_no_start_twice_however_its_processes_live_and_die() {
    let (keys, mut lived) = (KeyRing::new(), Lived::default());
    for seed in 0..10_000 {
        let _replay = Replay(seed);
        live(&mut Chance::new(seed), &keys, &mut lived);
    }
    println!("{lived:?}");
    let all = [lived.signed, lived.deaths, lived.changes, lived.idle];
    assert!(all.iter().all(|count| *count > 1_000), "{lived:?}");
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
        let script = stage.round();
        if shown {
            println!("{script}");
        }
        let (round, refused) = play_round(&script, &mut stage.chance, tally);
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
fn play_round(script: &Script, chance: &mut Chance, tally: &mut Tally) -> (Round, Refused) {
    let mut play = Play::new(script);
    let mut delivered: Vec<&Delivery> = Vec::new();
    let schedule = &script.terms.schedule;
    assert!(schedule.is_start(script.start_us) && oracle::is_start(schedule, script.start_us));
    assert_eq!(play.round.end_us(), script.end_us(), "the round's end");
    for delivery in &script.deliveries {
        if delivery.at_us > script.end_us() || script.ends_early && play.all_answered(script) {
            break;
        }
        play.deliver(delivery);
        delivered.push(delivery);
    }
    play.end();
    let verdict = oracle::judge(script, &delivered);
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
    within_honest_prices(script, &verdict, outcome.price);
    honest_ones_count(script, &outcome.standings);
    nothing_foreign_is_held(script, &play.round, &delivered);
    if chance.percent(50) {
        let mut again = Play::new(script);
        for delivery in reordered(&delivered, chance) {
            again.deliver(delivery);
        }
        let other = again.round.outcome();
        assert_eq!(other, outcome, "the outcome in another order");
    }
    tally.count(script, &outcome.standings, &play.refused);
    (play.round, play.refused)
}

/// The samples that came over one connection, and those of the next round on it.
type Tracks = [Vec<Record>; 2];

/// The aggregator's part: keeps samples by connection, and observations that no connection's samples fit yet.
struct Play {
    round: Round,
    tag: [u8; 8],
    /// By slot and connection.
    tracks: Vec<[Tracks; CONNECTIONS]>,
    waiting: Vec<(u16, [u8; Observation::BYTES])>,
    refused: Refused,
}

impl Play {
    fn new(script: &Script) -> Play {
        let round = Round::new((*script.terms).clone(), script.start_us);
        Play {
            tag: script.tag,
            tracks: (0..script.n()).map(|_| Default::default()).collect(),
            round,
            waiting: Vec::new(),
            refused: Refused::new(),
        }
    }

    fn refuse(&mut self, reason: Reject) {
        *self.refused.entry(reason).or_default() += 1;
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let (slot, now_us) = (delivery.slot, delivery.at_us);
        let heard = match &delivery.frame {
            Frame::Sample(connection, bytes) => self.sample(slot, *connection, bytes, now_us),
            Frame::Answer(posted) => self.answer(slot, &posted.encode(), now_us),
        };
        if let Err(reason) = heard {
            self.refuse(reason);
        }
    }

    /// Whether a frame is for this round; otherwise it is for a later one.
    fn is_for(&self, tag: [u8; 8], start_us: u64) -> Result<bool, Reject> {
        if tag != self.tag {
            return Err(Reject::TermsDiffer);
        }
        if start_us < self.round.start_us {
            return Err(Reject::RoundOver);
        }
        if !self.round.terms.schedule.is_start(start_us) {
            return Err(Reject::StartUnknown);
        }
        Ok(start_us == self.round.start_us)
    }

    fn sample(
        &mut self,
        slot: u16,
        connection: usize,
        bytes: &[u8; Sample::BYTES],
        now_us: u64,
    ) -> Result<(), Reject> {
        let sample = Sample::decode(bytes)?;
        let is_now = self.is_for(sample.tag, sample.start_us)?;
        let terms = &self.round.terms;
        // Without a price, it may come at any time of its round.
        let since_us = match sample.record.price {
            Ok(_) => u64::from(sample.record.index) * terms.schedule.interval_us,
            Err(_) => 0,
        };
        if sample.start_us + since_us > now_us + 1_000_000 {
            return Err(Reject::TooEarly);
        }
        let tracks = &mut self.tracks[usize::from(slot)][connection];
        let track = &mut tracks[usize::from(!is_now)];
        terms.check_record(track.len() as u32, &sample.record)?;
        track.push(sample.record);
        let (now, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(of, _)| *of == slot && is_now);
        self.waiting = later;
        for (slot, bytes) in Vec::from_iter::<Vec<_>>(now) {
            self.observe(slot, bytes)
                .unwrap_or_else(|reason| self.refuse(reason));
        }
        Ok(())
    }

    fn answer(
        &mut self,
        slot: u16,
        bytes: &[u8; DataFrame::BYTES],
        now_us: u64,
    ) -> Result<(), Reject> {
        let frame = DataFrame::decode(bytes);
        if self.is_for(frame.tag, frame.start_us)? {
            self.observe(slot, frame.observation)
        } else if frame.start_us > now_us + 1_000_000 {
            Err(Reject::TooEarly)
        } else {
            // It waits for its round.
            Ok(())
        }
    }

    /// The samples of each connection of a slot over which all of them came.
    fn whole_tracks(&self, slot: u16) -> Vec<Vec<Record>> {
        let samples = self.round.terms.schedule.samples as usize;
        let connections = self.tracks[usize::from(slot)].iter();
        connections
            .map(|[track, _]| track)
            .filter(|track| track.len() == samples)
            .cloned()
            .collect()
    }

    /// Tries an observation with the samples of each connection. It waits as long as it fits none: the samples that it was
    /// signed over may still come, whatever came over another connection.
    fn observe(&mut self, slot: u16, bytes: [u8; Observation::BYTES]) -> Result<(), Reject> {
        let before = self.round.answered(slot);
        for track in self.whole_tracks(slot) {
            match self.round.observe(slot, &track, &bytes) {
                Err(Reject::Signature) => {}
                heard => {
                    let after = self.round.answered(slot);
                    assert!(after || !before, "an answer is never taken back");
                    assert!(after && !before || heard.is_err(), "only the first counts");
                    return heard;
                }
            }
        }
        self.waiting.push((slot, bytes));
        Ok(())
    }

    /// Counts the observations that still wait.
    fn end(&mut self) {
        for (slot, _) in std::mem::take(&mut self.waiting) {
            self.refuse(if self.whole_tracks(slot).is_empty() {
                Reject::SamplesMissing
            } else {
                Reject::Signature
            });
        }
    }

    /// Whether every collector that takes part has answered.
    fn all_answered(&self, script: &Script) -> bool {
        let mut came = script
            .roles
            .iter()
            .enumerate()
            .filter(|(_, role)| **role != Role::Silent);
        came.all(|(slot, _)| self.round.answered(slot as u16))
    }
}

/// Asserts that with at most f liars, the price lies within the honest collectors' prices.
fn within_honest_prices(script: &Script, verdict: &Verdict, price: Option<f64>) {
    let (mut lowest, mut highest, mut liars) = (f64::INFINITY, 0.0f64, 0);
    for one in &verdict.counted {
        if script.roles[usize::from(one.slot)].is_honest() {
            lowest = lowest.min(one.price);
            highest = highest.max(one.price);
        } else {
            liars += 1;
        }
    }
    let prices = verdict.counted.len() as u16;
    if let Some(price) = price {
        let quorum = oracle::quorum(&script.terms);
        assert!(prices >= quorum, "a price needs the quorum");
        let within = (lowest..=highest).contains(&price);
        assert!(
            liars > oracle::f(&script.terms) || within,
            "{price} of honest {lowest} to {highest}"
        );
    }
}

/// Asserts that an honest collector whose key is known counts with exactly its own price, whatever others send.
fn honest_ones_count(script: &Script, standings: &[Standing]) {
    for (slot, role) in script.roles.iter().enumerate() {
        if !role.counts() || script.keys[slot].is_none() {
            continue;
        }
        let (bits, _) = script.made[slot].expect("it sent something");
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

/// Asserts that the round holds only observations signed by the slot's own key for this round, with the samples that they were
/// signed over, and that no key has two slots.
fn nothing_foreign_is_held(script: &Script, round: &Round, delivered: &[&Delivery]) {
    let mut keys = BTreeSet::new();
    for (slot, part) in round.parts.iter().enumerate() {
        let first = part.signed_answer();
        for held in [first, part.equivocated].into_iter().flatten() {
            let bytes = held.observation.encode();
            let is_own = |signed: &Signed| {
                Some(signed.key) == script.keys[slot]
                    && usize::from(signed.slot) == slot
                    && signed.start_us == script.start_us
                    && signed.terms == script.terms
                    && samples_digest(&signed.records) == held.samples_digest
            };
            let is_source = |delivery: &&&Delivery| match &delivery.frame {
                Frame::Answer(posted) => {
                    let letter = &posted.letter;
                    letter.bytes == bytes && letter.signed.as_ref().is_some_and(is_own)
                }
                Frame::Sample(..) => false,
            };
            assert!(
                delivered.iter().any(|d| is_source(&d)),
                "slot {slot} holds {held:?}"
            );
        }
        if part.observation.is_some() {
            assert!(
                keys.insert(script.keys[slot]),
                "slot {slot}: its key has two slots"
            );
        }
    }
}

/// The same deliveries in another order, except that the samples on each connection stay in order.
fn reordered<'a>(delivered: &[&'a Delivery], chance: &mut Chance) -> Vec<&'a Delivery> {
    let mut places: Vec<usize> = (0..delivered.len()).collect();
    chance.shuffle(&mut places);
    let sampled = |at: usize| match delivered[at].frame {
        Frame::Sample(connection, _) => Some((delivered[at].slot, connection)),
        Frame::Answer(_) => None,
    };
    let connections: BTreeSet<(u16, usize)> = (0..delivered.len()).filter_map(sampled).collect();
    for connection in connections {
        let mut of_it: Vec<usize> = places
            .iter()
            .copied()
            .filter(|at| sampled(*at) == Some(connection))
            .collect();
        of_it.sort_unstable_by(|a, b| b.cmp(a));
        for place in &mut places {
            if sampled(*place) == Some(connection) {
                *place = of_it.pop().expect("as many as there were");
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
    fn count(&mut self, script: &Script, standings: &[Standing], refused: &Refused) {
        self.rounds += 1;
        self.roles.extend(&script.roles);
        self.whats
            .extend(script.deliveries.iter().map(|delivery| delivery.what));
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
        assert_eq!(self.whats.len(), 16, "{:?}", self.whats);
        let rules = Reject::RoundOver.code()..=Reject::TooEarly.code();
        let rules = rules.map(|code| Reject::from_code(code).expect("the codes have no gap"));
        for reason in rules.chain([Reject::TermsDiffer, Reject::StartUnknown]) {
            assert!(
                self.refused.contains_key(&reason),
                "never refused: {reason}"
            );
        }
    }
}
