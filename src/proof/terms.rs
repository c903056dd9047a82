//! The terms of a round: everything that is fixed before it starts. Every signature of the round covers their digest. And the
//! roster: the terms and keys that a consumer trusts.
//!
//! Invariant: terms that differ in anything have different digests.

use crate::aggregate::Rule;
use crate::bytes::padded;
use crate::seal::{Digest32, PublicKey};
use crate::tolerance::Tolerance;
use alloc::string::String;
use alloc::vec::Vec;

/// One slot of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The collector's key; `None` if the slot had no collector when the round began.
    pub key: Option<PublicKey>,
    /// What the collector watches, such as `binance:BTCUSDC`.
    pub source: String,
}

/// The terms of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The aggregator's key, which signs the round and the report.
    pub aggregator: PublicKey,
    /// Random id of the aggregator's run, new at every start.
    pub session: [u8; 32],
    /// The name of the feed: what is priced.
    pub feed: String,
    /// How the collectors' prices are combined.
    pub rule: Rule,
    /// How a collector's samples are combined: by mean or median.
    pub sample_rule: Rule,
    /// How many collectors may lie.
    pub f: u16,
    /// The fewest prices from which a price may be published.
    pub quorum: u16,
    /// The fewest distinct exchanges among those prices.
    pub exchanges_min: u16,
    /// Samples per collector.
    pub samples: u32,
    /// Microseconds from one sample to the next.
    pub interval_us: u64,
    /// The roster: n slots.
    pub seats: Vec<Seat>,
}

/// Whom to trust for one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The name of the feed: what is priced.
    pub feed: String,
    /// How the collectors' prices are combined.
    pub rule: Rule,
    /// How a collector's samples are combined: by mean or median.
    pub sample_rule: Rule,
    /// How many collectors may lie.
    pub f: u16,
    /// The fewest prices from which a price may be published.
    pub quorum: u16,
    /// The fewest distinct exchanges among those prices.
    pub exchanges_min: u16,
    /// The key of the only aggregator that is trusted; None for any aggregator.
    pub aggregator: Option<PublicKey>,
    /// The collectors. A collector's index is its slot.
    pub collectors: Vec<RosterSeat>,
}

/// A trusted collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterSeat {
    /// Its key.
    pub key: PublicKey,
    /// Its source, such as `binance:BTCUSDC`.
    pub source: String,
}

impl Roster {
    /// n: the number of configured collectors, whoever answers.
    pub fn n(&self) -> u16 {
        self.collectors.len() as u16
    }
}

impl Terms {
    /// n: the number of configured slots, whoever answers.
    pub fn n(&self) -> u16 {
        self.seats.len() as u16
    }

    /// The first 32 bytes of SHA-512 over [`Terms::digested`].
    pub fn digest(&self) -> [u8; 32] {
        self.digested().done()
    }

    /// What the digest covers: all terms, as in the table of docs/PROTOCOL.md. An empty seat's key is 32 zero bytes.
    pub fn digested(&self) -> Digest32 {
        let digest = Digest32::terms()
            .field(self.aggregator.bytes())
            .field(&self.session)
            .field(&padded::<16>(&self.feed))
            .field(&self.rule.code().to_be_bytes())
            .field(&self.sample_rule.code().to_be_bytes())
            .field(&self.n().to_be_bytes())
            .field(&self.f.to_be_bytes())
            .field(&self.quorum.to_be_bytes())
            .field(&self.exchanges_min.to_be_bytes())
            .field(&self.samples.to_be_bytes())
            .field(&self.interval_us.to_be_bytes());
        let seat = |digest: Digest32, seat: &Seat| {
            let key = seat.key.as_ref().map_or([0; 32], |key| *key.bytes());
            digest.field(&key).field(&padded::<32>(&seat.source))
        };
        self.seats.iter().fold(digest, seat)
    }

    /// How many faults the roster tolerates.
    pub fn tolerance(&self) -> Tolerance<'_> {
        let sources: Vec<&str> = self.seats.iter().map(|seat| seat.source.as_str()).collect();
        Tolerance::of(&self.feed, &sources, self.f)
    }

    /// Microseconds from the start to the last sample's instant.
    pub fn last_instant_us(&self) -> u64 {
        u64::from(self.samples - 1) * self.interval_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::SecretKey;
    use std::prelude::v1::*;

    fn terms() -> Terms {
        let key = |seed| SecretKey::from_seed(&[seed; 32]).public();
        Terms {
            aggregator: key(1),
            session: [2; 32],
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            f: 1,
            quorum: 3,
            exchanges_min: 1,
            samples: 10,
            interval_us: 1_000_000,
            seats: (3..7)
                .map(|seed| Seat {
                    key: Some(key(seed)),
                    source: "binance:BTCUSDC".into(),
                })
                .collect(),
        }
    }

    #[test]
    fn any_difference_in_the_terms_changes_the_digest() {
        type Change = fn(&mut Terms);
        let changes: [Change; 13] = [
            |t| t.aggregator = t.seats[0].key.unwrap(),
            |t| t.session[31] ^= 1,
            |t| t.feed.push('T'),
            |t| t.rule = Rule::Median,
            |t| t.sample_rule = Rule::Median,
            |t| t.f = 0,
            |t| t.quorum = 4,
            |t| t.exchanges_min = 2,
            |t| t.samples = 11,
            |t| t.interval_us += 1,
            |t| t.seats[3].key = None,
            |t| t.seats[3].source.push('T'),
            |t| t.seats.swap(0, 1),
        ];
        let mut digests = vec![terms().digest()];
        for change in changes {
            let mut changed = terms();
            change(&mut changed);
            let digest = changed.digest();
            assert!(!digests.contains(&digest), "change {}", digests.len());
            digests.push(digest);
        }
        assert_eq!(digests[0], terms().digest());
    }
}
