//! The byte strings of the little round cut into their fields, to hold the document's tables of offsets against.

use super::*;

/// A byte string with its fields, in order, under the names of its table in the document.
pub struct Layout {
    /// The heading above the table, without its width.
    pub heading: &'static str,
    /// The whole, as the library makes it.
    pub bytes: Vec<u8>,
    /// Its fields.
    pub fields: Vec<(&'static str, Vec<u8>)>,
}

impl Story {
    /// Every table of offsets that the document must have.
    pub fn layouts(&self) -> Vec<Layout> {
        let player = &self.players[2];
        let mut all = frames(player);
        all.extend(signed(player));
        let mut fields = self.terms_fields();
        let seat = fields.split_off(fields.len() - 4)[..2].to_vec();
        fields.truncate(11);
        let layout = |heading, fields: Vec<_>| Layout {
            heading,
            bytes: join(&fields),
            fields,
        };
        all.push(layout("Digested as terms, once", fields));
        all.push(layout("Digested as terms, for each slot", seat));
        let samples = digested_samples(&player.records);
        all.push(Layout {
            heading: "Digested as samples, once",
            bytes: samples[..32].to_vec(),
            fields: vec![("context", padded::<32>("rsoracle v1 samples").to_vec())],
        });
        all
    }
}

/// The head of a frame, as a field.
fn head(kind: Kind) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = [&MAGIC[..], &[VERSION, kind as u8, 0, 0]].concat();
    vec![("head", bytes)]
}

fn frames(player: &Player) -> Vec<Layout> {
    let be = |number: u64| number.to_be_bytes().to_vec();
    let slot = player.slot.to_be_bytes().to_vec();
    let (hello, round) = (&player.hello, &player.round);
    let layout = |heading, bytes: &[u8], fields: Vec<(&'static str, Vec<u8>)>| Layout {
        heading,
        bytes: bytes.to_vec(),
        fields,
    };
    let challenge = Challenge {
        nonce: player.nonce,
    }
    .encode();
    let record = player.records[1];
    let sample = player.samples().nth(1).expect("two samples");
    let refusal = Refusal {
        reason: Reject::SlotTaken,
    };
    let framed = |kind, fields: Vec<(&'static str, Vec<u8>)>| [head(kind), fields].concat();
    let head_fields = vec![
        ("magic", MAGIC.to_vec()),
        ("version", vec![VERSION]),
        ("kind", vec![Kind::Challenge as u8]),
        ("zero", vec![0; 2]),
    ];
    let hello_fields = vec![
        ("slot", slot.clone()),
        ("zero", vec![0; 6]),
        ("public key", hello.key.to_vec()),
        ("source", hello.source.to_vec()),
        ("clock", be(hello.clock_us)),
        ("signature", hello.signature.to_vec()),
    ];
    let ready_fields = vec![
        ("clock", be(ready().clock_us)),
        ("first price", be(ready().price.to_bits())),
    ];
    let round_fields = vec![
        ("start", be(START_US)),
        ("interval", be(INTERVAL_US)),
        ("samples", SAMPLES.to_be_bytes().to_vec()),
        ("zero", vec![0; 4]),
        ("terms digest", round.terms_digest.to_vec()),
        ("signature", round.signature.to_vec()),
    ];
    let sample_fields = vec![
        ("start", be(START_US)),
        ("record", record.encode().to_vec()),
    ];
    let refusal_fields = vec![
        ("reason", Reject::SlotTaken.code().to_be_bytes().to_vec()),
        ("zero", vec![0; 6]),
    ];
    let preamble_fields = vec![
        ("slot", slot),
        ("zero", vec![0; 6]),
        ("public key", hello.key.to_vec()),
    ];
    let observation = &player.observation;
    let observation_fields = vec![
        ("average", be(observation.answer.to_bits())),
        ("timestamp", be(observation.timestamp_us)),
        ("signature", observation.signature.to_vec()),
    ];
    let record_fields = vec![
        ("index", record.index.to_be_bytes().to_vec()),
        ("reason", vec![0; 2]),
        ("zero", vec![0; 2]),
        ("price", be(record.price.expect("a price").to_bits())),
        ("lateness", be(record.lateness_us.expect("asked for"))),
        ("age", vec![0xff; 8]),
    ];
    vec![
        layout("Head", &challenge[..HEAD_BYTES], head_fields),
        layout(
            "Frame 1, challenge",
            &challenge,
            framed(Kind::Challenge, vec![("nonce", player.nonce.to_vec())]),
        ),
        layout(
            "Frame 2, hello",
            &hello.encode(),
            framed(Kind::Hello, hello_fields),
        ),
        layout(
            "Frame 3, ready",
            &ready().encode(),
            framed(Kind::Ready, ready_fields),
        ),
        layout(
            "Frame 4, round",
            &round.encode(),
            framed(Kind::Round, round_fields),
        ),
        layout(
            "Frame 5, sample",
            &sample.encode(),
            framed(Kind::Sample, sample_fields),
        ),
        layout(
            "Frame 6, refusal",
            &refusal.encode(),
            framed(Kind::Refusal, refusal_fields),
        ),
        layout(
            "Frame 7, preamble",
            &player.preamble().encode(),
            framed(Kind::Preamble, preamble_fields),
        ),
        layout("Observation", &observation.encode(), observation_fields),
        layout("Sample record", &record.encode(), record_fields),
    ]
}

/// What signatures cover, and the enrolment.
fn signed(player: &Player) -> Vec<Layout> {
    let be = |number: u64| number.to_be_bytes().to_vec();
    let (hello, round, observation) = (&player.hello, &player.round, &player.observation);
    let context = |text| ("context", padded::<32>(text).to_vec());
    let slot = ("slot", player.slot.to_be_bytes().to_vec());
    let samples = ("samples", SAMPLES.to_be_bytes().to_vec());
    let secret = ("secret", player.secret.expose().to_vec());
    let aggregator = aggregator_key().public().bytes().to_vec();
    let layout = |heading, bytes: &[u8], fields| Layout {
        heading,
        bytes: bytes.to_vec(),
        fields,
    };
    vec![
        layout(
            "Enrolment",
            &[*player.secret.expose(), *aggregator_key().public().bytes()].concat(),
            vec![secret.clone(), ("aggregator's public key", aggregator)],
        ),
        layout(
            "Signed by a hello",
            &hello_bytes(&player.nonce, &player.secret, hello),
            vec![
                context("rsoracle v1 hello"),
                ("nonce", player.nonce.to_vec()),
                secret,
                slot.clone(),
                ("public key", hello.key.to_vec()),
                ("source", hello.source.to_vec()),
                ("clock", be(hello.clock_us)),
            ],
        ),
        layout(
            "Signed by a round",
            &round_bytes(&player.nonce, &hello.signature, round),
            vec![
                context("rsoracle v1 round"),
                ("nonce", player.nonce.to_vec()),
                ("hello's signature", hello.signature.to_vec()),
                ("start", be(START_US)),
                ("interval", be(INTERVAL_US)),
                samples.clone(),
                ("terms digest", round.terms_digest.to_vec()),
            ],
        ),
        layout(
            "Signed by an observation",
            &player.observation_signed(),
            vec![
                context("rsoracle v1 observation"),
                ("terms digest", round.terms_digest.to_vec()),
                slot,
                ("feed", padded::<16>(FEED).to_vec()),
                ("source", padded::<32>(SOURCE).to_vec()),
                ("start", be(START_US)),
                samples,
                ("interval", be(INTERVAL_US)),
                ("samples digest", samples_digest(&player.records).to_vec()),
                ("average", be(observation.answer.to_bits())),
                ("timestamp", be(observation.timestamp_us)),
            ],
        ),
    ]
}
