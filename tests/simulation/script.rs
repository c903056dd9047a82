//! The script of one simulated round: what arrives, when, and who made it.
//!
//! Instants are virtual: microseconds since the Unix epoch, but nobody waits for them.

use super::chance::Chance;
use super::oracle;
use rsoracle::keys::secret::SecretKey;
use rsoracle::wire::{DataFrame, Sample};
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::seal::{ObservationContext, PublicKey, observation_bytes, samples_digest};
use rsoracle_proof::terms::Terms;
use std::fmt;
use std::rc::Rc;

/// How a collector behaves in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Correctly; its exchange may fail.
    Honest,
    /// Honest, but also sends samples of other rounds, twice, or out of order.
    Noisy,
    /// Honest, over a slow connection that may exceed the deadline.
    Slow,
    /// Honest until it dies.
    Dies,
    /// Honest, but its connection is lost in the round. It sends everything again on another one, beside the first.
    Reconnects,
    /// Honest, but somebody passed on a hello of it, and sends false samples on that second connection.
    Shadowed,
    /// Abstains although it has enough samples.
    Refuses,
    /// Sends nothing.
    Silent,
    /// Sends all samples but no answer.
    Mute,
    /// Sends an answer, but not all samples.
    Hasty,
    /// Sends samples and an answer with a price that it did not see.
    Lies,
    /// Signs an answer that its samples do not make.
    Misreckons,
    /// Signs several answers over the same samples.
    Equivocates,
    /// Sends other samples on a second connection, and signs an answer for each.
    TwoFaced,
    /// Uses a sample that was requested too late, or is too old.
    Late,
    /// Signs timestamps outside the round.
    Jumps,
    /// Signs with another key than that of its seat.
    Rekeyed,
    /// A bit of a control frame is flipped on the way.
    Broken,
}

impl Role {
    pub const ALL: [Role; 18] = [
        Role::Honest,
        Role::Noisy,
        Role::Slow,
        Role::Dies,
        Role::Reconnects,
        Role::Shadowed,
        Role::Refuses,
        Role::Silent,
        Role::Mute,
        Role::Hasty,
        Role::Lies,
        Role::Misreckons,
        Role::Equivocates,
        Role::TwoFaced,
        Role::Late,
        Role::Jumps,
        Role::Rekeyed,
        Role::Broken,
    ];

    /// Whether every price that it gives follows from the prices that it saw.
    pub fn is_honest(self) -> bool {
        self < Role::Lies
    }

    /// Whether it must count, whatever others do.
    pub fn counts(self) -> bool {
        matches!(
            self,
            Role::Honest | Role::Noisy | Role::Reconnects | Role::Shadowed | Role::Refuses
        )
    }
}

/// Who signed a letter, and for what.
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
    /// `None` if nobody signed exactly this.
    pub signed: Option<Signed>,
}

impl Letter {
    /// The bits of the average.
    pub fn bits(&self) -> u64 {
        u64::from_be_bytes(self.bytes[..8].try_into().unwrap())
    }

    pub fn timestamp_us(&self) -> u64 {
        u64::from_be_bytes(self.bytes[8..16].try_into().unwrap())
    }

    /// A letter of chosen parts, which nobody signed as a whole.
    pub fn unsigned(bits: u64, timestamp_us: u64, signature: [u8; 64]) -> Letter {
        let mut bytes = [0; Observation::BYTES];
        bytes[..8].copy_from_slice(&bits.to_be_bytes());
        bytes[8..16].copy_from_slice(&timestamp_us.to_be_bytes());
        bytes[16..].copy_from_slice(&signature);
        let signed = None;
        Letter { bytes, signed }
    }
}

/// A letter in a data frame, which names the round that it is for.
#[derive(Clone)]
pub struct Posted {
    pub tag: [u8; 8],
    pub start_us: u64,
    pub letter: Letter,
}

impl Posted {
    /// A letter for the round of a script.
    pub fn to(script: &Script, letter: Letter) -> Posted {
        Posted {
            tag: script.tag,
            start_us: script.start_us,
            letter,
        }
    }

    /// The frame as bytes.
    pub fn encode(&self) -> [u8; DataFrame::BYTES] {
        DataFrame {
            tag: self.tag,
            start_us: self.start_us,
            observation: self.letter.bytes,
        }
        .encode()
    }
}

/// What a delivery carries.
#[derive(Clone)]
pub enum Frame {
    /// A sample frame on a control connection of the slot, by the connection's number.
    Sample(usize, [u8; Sample::BYTES]),
    /// An observation on a data connection.
    Answer(Posted),
}

/// Most control connections of a slot.
pub const CONNECTIONS: usize = 2;

/// One arrival.
#[derive(Clone)]
pub struct Delivery {
    pub at_us: u64,
    /// The slot of its control connection, or the slot whose key its preamble named.
    pub slot: u16,
    pub what: &'static str,
    pub frame: Frame,
}

/// One round.
pub struct Script {
    pub terms: Rc<Terms>,
    /// The first bytes of the terms' digest.
    pub tag: [u8; 8],
    /// The key in each seat, as an index in the key ring.
    pub keys: Vec<Option<usize>>,
    pub start_us: u64,
    pub roles: Vec<Role>,
    /// For each slot that signs an answer, the answer that its samples make: bits and timestamp.
    pub made: Vec<Option<(u64, u64)>>,
    /// All deliveries, in order of arrival.
    pub deliveries: Vec<Delivery>,
    /// Whether the round ends as soon as every collector that can has answered.
    pub ends_early: bool,
}

impl Script {
    /// When the round ends.
    pub fn end_us(&self) -> u64 {
        self.start_us + oracle::length_us(&self.terms.schedule)
    }

    pub fn n(&self) -> u16 {
        self.terms.seats.len() as u16
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = &self.terms;
        writeln!(
            f,
            "round at {}: {} of samples' {}, n {}, exchanges {}, age {:?}, {:?}{}",
            self.start_us,
            terms.rule,
            terms.sample_rule,
            self.n(),
            terms.exchanges_min,
            terms.age_us_max,
            terms.schedule,
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
                Frame::Sample(connection, bytes) => {
                    writeln!(f, "on {connection}, {:?}", Sample::decode(bytes))?;
                }
                Frame::Answer(Posted {
                    letter, start_us, ..
                }) => writeln!(
                    f,
                    "{} ({:#x}) at {} for {start_us}, signed by {:?}",
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

/// Secret keys, made once.
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

    /// Signs a letter with these bits and this timestamp.
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

    /// Signs a letter for these terms and samples, but for another slot, round or digest.
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
        match chance.below(4) {
            0 => context.slot += 1,
            1 => context.start_us += 1,
            2 => context.start_us += signed.terms.schedule.period_us.max(1),
            _ => (context.terms_digest, context.samples_digest) = (&samples, &digest),
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
        start_us: signed.start_us,
        samples_digest: samples,
    }
}
