//! What arrives in one simulated round, when, and who made it.
//!
//! Instants are virtual: microseconds since the Unix epoch that nobody waits for.

use super::chance::Chance;
use super::oracle;
use rsoracle::keys::secret::SecretKey;
use rsoracle::wire::Sample;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use rsoracle_proof::terms::Terms;
use std::fmt;
use std::rc::Rc;

/// What a collector does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// All as it should be; an exchange may fail it.
    Honest,
    /// Honest, and besides sends samples of other rounds, twice, and out of order.
    Noisy,
    /// Honest, over a connection that may take until after the deadline.
    Slow,
    /// Honest until it dies.
    Dies,
    /// Abstains although it has its samples.
    Refuses,
    /// Never comes.
    Silent,
    /// All samples and no answer.
    Mute,
    /// An answer without all samples.
    Hasty,
    /// Samples and an answer of another price.
    Lies,
    /// Signs an answer that its samples do not make.
    Misreckons,
    /// Signs several answers over the same samples.
    Equivocates,
    /// Takes samples into account that were asked for too late.
    Late,
    /// Signs times outside the round.
    Jumps,
    /// Signs with another key than the one in its seat.
    Rekeyed,
    /// A bit of a control frame is another on arrival.
    Broken,
}

impl Role {
    pub const ALL: [Role; 15] = [
        Role::Honest,
        Role::Noisy,
        Role::Slow,
        Role::Dies,
        Role::Refuses,
        Role::Silent,
        Role::Mute,
        Role::Hasty,
        Role::Lies,
        Role::Misreckons,
        Role::Equivocates,
        Role::Late,
        Role::Jumps,
        Role::Rekeyed,
        Role::Broken,
    ];

    /// Whether whatever price it gives is one that it saw, by the rules.
    pub fn is_honest(self) -> bool {
        self < Role::Lies
    }

    /// Whether it counts, whatever others do.
    pub fn counts(self) -> bool {
        matches!(self, Role::Honest | Role::Noisy | Role::Refuses)
    }
}

/// Who signed a letter, and over what.
#[derive(Clone)]
pub struct Signed {
    /// Index in the key ring.
    pub key: usize,
    pub terms: Rc<Terms>,
    pub slot: u16,
    pub start_us: u64,
    pub records: Rc<Vec<Record>>,
}

/// The 80 bytes of an observation, or of something that looks like one.
#[derive(Clone)]
pub struct Letter {
    pub bytes: [u8; Observation::BYTES],
    /// `None` if nobody signed just this.
    pub signed: Option<Signed>,
}

impl Letter {
    /// What stands in the average's place.
    pub fn bits(&self) -> u64 {
        u64::from_be_bytes(self.bytes[..8].try_into().unwrap())
    }

    pub fn timestamp_us(&self) -> u64 {
        u64::from_be_bytes(self.bytes[8..16].try_into().unwrap())
    }

    /// Of random bytes or of parts that somebody chose.
    pub fn unsigned(bits: u64, timestamp_us: u64, signature: [u8; 64]) -> Letter {
        let mut bytes = [0; Observation::BYTES];
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes[8..16].copy_from_slice(&timestamp_us.to_be_bytes());
        bytes[16..].copy_from_slice(&signature);
        let signed = None;
        Letter { bytes, signed }
    }
}

/// What arrives.
#[derive(Clone)]
pub enum Frame {
    /// On the control connection.
    Sample([u8; Sample::BYTES]),
    /// On a data connection.
    Answer(Letter),
}

/// One arrival.
#[derive(Clone)]
pub struct Delivery {
    pub at_us: u64,
    /// The slot whose connection it is, or whose key its sender named.
    pub slot: u16,
    pub what: &'static str,
    pub frame: Frame,
}

/// One round.
pub struct Schedule {
    pub terms: Rc<Terms>,
    /// The key in each seat, as an index in the key ring.
    pub keys: Vec<Option<usize>>,
    pub start_us: u64,
    pub roles: Vec<Role>,
    /// The answer that the samples of each slot make, where it sends any: bits and timestamp.
    pub made: Vec<Option<(u64, u64)>>,
    /// In the order of their arrival.
    pub deliveries: Vec<Delivery>,
    /// Whether the round ends as soon as all that can has answered.
    pub ends_early: bool,
}

impl Schedule {
    /// When the round must end.
    pub fn deadline_us(&self) -> u64 {
        oracle::last_instant_us(self) + 1_500_000
    }

    pub fn n(&self) -> u16 {
        self.terms.seats.len() as u16
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = &self.terms;
        writeln!(
            f,
            "round at {}: {} of samples' {}, n {}, f {}, quorum {}, exchanges {}, {} samples {} µs apart{}",
            self.start_us,
            terms.rule,
            terms.sample_rule,
            self.n(),
            terms.f,
            terms.quorum,
            terms.exchanges_min,
            terms.samples,
            terms.interval_us,
            if self.ends_early { ", ends early" } else { "" }
        )?;
        for (slot, role) in self.roles.iter().enumerate() {
            let (key, made) = (self.keys[slot], self.made[slot]);
            let made = made.map(|(bits, us)| (f64::from_bits(bits), us));
            writeln!(f, "  slot {slot}: {role:?}, key {key:?}, makes {made:?}")?;
        }
        for delivery in &self.deliveries {
            let after_us = delivery.at_us as i64 - self.start_us as i64;
            write!(
                f,
                "  {after_us:>10} µs, slot {}, {}: ",
                delivery.slot, delivery.what
            )?;
            match &delivery.frame {
                Frame::Sample(bytes) => writeln!(f, "{:?}", Sample::decode(bytes))?,
                Frame::Answer(letter) => writeln!(
                    f,
                    "{} ({:#x}) at {}, signed by {:?}",
                    f64::from_bits(letter.bits()),
                    letter.bits(),
                    letter.timestamp_us(),
                    letter.signed.as_ref().map(|signed| signed.key)
                )?,
            }
        }
        Ok(())
    }
}

/// Keys made once.
pub struct KeyRing {
    secrets: Vec<SecretKey>,
    publics: Vec<PublicKey>,
}

impl KeyRing {
    /// Index of the aggregator's key.
    pub const AGGREGATOR: usize = 30;

    pub fn new() -> KeyRing {
        let secrets: Vec<SecretKey> = (0..=KeyRing::AGGREGATOR)
            .map(|index| SecretKey::from_seed(&mut [index as u8 + 1; 32]))
            .collect();
        let publics = secrets.iter().map(SecretKey::public).collect();
        KeyRing { secrets, publics }
    }

    pub fn secret(&self, key: usize) -> &SecretKey {
        &self.secrets[key]
    }

    pub fn public(&self, key: usize) -> PublicKey {
        self.publics[key]
    }

    /// A letter that says `bits` at `timestamp_us`.
    pub fn sign(&self, signed: Signed, bits: u64, timestamp_us: u64) -> Letter {
        let digest = signed.terms.digest();
        let samples = samples_digest(&signed.records);
        let context = context(&signed, &digest, &samples);
        let bytes = observation_bytes(&context, bits, timestamp_us);
        let signature = self.secrets[signed.key].sign(&bytes);
        let letter = Letter::unsigned(bits, timestamp_us, signature);
        Letter {
            signed: Some(signed),
            ..letter
        }
    }

    /// One whose signature covers these terms' digest, but beside it another feed, source, shape or place than theirs.
    pub fn sign_elsewhere(
        &self,
        chance: &mut Chance,
        signed: &Signed,
        bits: u64,
        at_us: u64,
    ) -> Letter {
        let digest = signed.terms.digest();
        let samples = samples_digest(&signed.records);
        let mut context = context(signed, &digest, &samples);
        match chance.below(6) {
            0 => context.feed = "ETH/USD",
            1 => context.source = "nowhere:BTCUSD",
            2 => context.samples += 1,
            3 => context.interval_us += 1,
            4 => context.slot += 1,
            _ => context.start_us += 1,
        }
        let bytes = observation_bytes(&context, bits, at_us);
        Letter::unsigned(bits, at_us, self.secrets[signed.key].sign(&bytes))
    }
}

fn context<'a>(
    signed: &'a Signed,
    digest: &'a [u8; 32],
    samples: &'a [u8; 32],
) -> ObservationContext<'a> {
    ObservationContext {
        terms_digest: digest,
        slot: signed.slot,
        feed: &signed.terms.feed,
        source: &signed.terms.seats[usize::from(signed.slot)].source,
        start_us: signed.start_us,
        samples: signed.terms.samples,
        interval_us: signed.terms.interval_us,
        samples_digest: samples,
    }
}
