//! Parses terms at fixed widths: the bytes that a terms digest covers.

use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::decode::Take;
use rsoracle_proof::limits::{FEED_BYTES_MAX, SOURCE_BYTES_MAX};
use rsoracle_proof::schedule::Schedule;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::terms::{HEAD_BYTES, SEAT_BYTES, Seat, Terms};
use std::collections::BTreeMap;

/// The keys that were decoded.
type Keys = BTreeMap<[u8; 32], Option<PublicKey>>;

/// Parses what [`Terms::encode`] writes, for each feed of a roster. An error says what is wrong; it may be that the terms fail
/// [`Terms::check`]. A key that several feeds have, which is the rule, is decoded once.
pub fn decode(feeds: &[Vec<u8>]) -> Vec<Result<Terms, String>> {
    let mut keys = Keys::new();
    feeds
        .iter()
        .map(|bytes| of_feed(bytes, &mut keys))
        .collect()
}

fn of_feed(bytes: &[u8], keys: &mut Keys) -> Result<Terms, String> {
    let terms = fields(bytes, keys).filter(|terms| terms.encode() == bytes);
    let terms = terms.ok_or("the bytes are no terms")?;
    terms.check().map(|()| terms)
}

fn fields(bytes: &[u8], keys: &mut Keys) -> Option<Terms> {
    let (head, seats) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let mut take = Take::all(head);
    Some(Terms {
        feed: text(take.array::<FEED_BYTES_MAX>())?,
        rule: Rule::from_code(take.u16())?,
        sample_rule: Rule::from_code(take.u16())?,
        exchanges_min: take.u16(),
        age_us_max: Some(take.u64()).filter(|us| *us < u64::MAX),
        spread_ppm_max: Some(take.u32()).filter(|ppm| *ppm < u32::MAX),
        schedule: Schedule {
            samples: take.u32(),
            interval_us: take.u64(),
            period_us: take.u64(),
            first_start_us: take.u64(),
            end_us: Some(take.u64()).filter(|us| *us < u64::MAX),
        },
        seats: seats
            .as_chunks::<SEAT_BYTES>()
            .0
            .iter()
            .map(|bytes| seat(bytes, keys))
            .collect::<Option<_>>()?,
    })
}

fn seat(bytes: &[u8; SEAT_BYTES], keys: &mut Keys) -> Option<Seat> {
    let mut take = Take::all(bytes);
    let key: [u8; 32] = take.array();
    let key = match key == [0; 32] {
        true => None,
        false => Some((*keys.entry(key).or_insert_with(|| PublicKey::decode(&key)))?),
    };
    let source = text(take.array::<SOURCE_BYTES_MAX>())?;
    Some(Seat { key, source })
}

/// The text in a field that is padded with zeros.
fn text<const N: usize>(field: [u8; N]) -> Option<String> {
    let text = str::from_utf8(&field).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;

    fn decode(bytes: &[u8]) -> Result<Terms, String> {
        of_feed(bytes, &mut Keys::new())
    }

    #[test]
    fn each_key_of_a_roster_is_decoded_once_and_a_bad_one_costs_its_feeds_only() {
        let key = |seed| SecretKey::from_seed(&mut [seed; 32]).public();
        let terms = |feed: &str, seeds: &[u8]| Terms {
            feed: feed.into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Mean,
            exchanges_min: 1,
            age_us_max: None,
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 7,
                period_us: 10_000_000,
                end_us: None,
                samples: 10,
                interval_us: 1_000_000,
            },
            seats: seeds
                .iter()
                .map(|seed| Seat {
                    key: Some(key(*seed)),
                    source: format!("okx:{seed}-USDT"),
                })
                .collect(),
        };
        let feeds = [terms("BTC/USD", &[1, 2, 3]), terms("ETH/USD", &[3, 1, 4])];
        let mut bytes: Vec<Vec<u8>> = feeds.iter().map(Terms::encode).collect();
        let mut keys = Keys::new();
        for (bytes, terms) in bytes.iter().zip(&feeds) {
            assert_eq!(of_feed(bytes, &mut keys).as_ref(), Ok(terms));
        }
        assert_eq!(keys.len(), 4);
        // A key of small order.
        let place = HEAD_BYTES..HEAD_BYTES + 32;
        bytes[0][place].copy_from_slice(&[&[1][..], &[0; 31]].concat());
        let decoded = super::decode(&bytes);
        assert!(decoded[0].is_err());
        assert_eq!(decoded[1].as_ref(), Ok(&feeds[1]));
    }

    #[test]
    fn encoded_terms_are_decoded_and_nothing_else_is() {
        let key = |seed| SecretKey::from_seed(&mut [seed; 32]).public();
        let seat = |seed: u8| Seat {
            key: (seed != 1).then(|| key(seed)),
            source: format!("okx:{seed}-USDT"),
        };
        let terms = Terms {
            feed: "BTC/USD".into(),
            rule: Rule::TrimmedMean,
            sample_rule: Rule::Median,
            exchanges_min: 1,
            age_us_max: Some(60_000_000),
            spread_ppm_max: None,
            schedule: Schedule {
                first_start_us: 7,
                period_us: 10_000_000,
                end_us: None,
                samples: 10,
                interval_us: 1_000_000,
            },
            seats: (0..4).map(seat).collect(),
        };
        let bytes = terms.encode();
        assert_eq!(decode(&bytes).as_ref(), Ok(&terms));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(terms) = decode(&other) {
                assert_eq!(terms.encode(), other, "bit {bit}");
            }
        }
        let mut unfit = terms;
        unfit.schedule.samples = 11;
        let sentence = decode(&unfit.encode()).unwrap_err();
        assert!(sentence.contains("use fewer samples"), "{sentence}");
    }
}
