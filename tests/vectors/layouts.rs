//! The byte strings of the example round, cut into their fields, to compare with the document's tables of offsets.

use super::*;

/// A byte string with its fields, in order, with the names of its table in the document.
pub struct Layout {
    /// The heading of the table, without the width.
    pub heading: &'static str,
    /// The whole byte string, as the library makes it.
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
        let mut fields = terms_fields(&self.terms);
        let seat = fields.split_off(fields.len() - 4)[..2].to_vec();
        fields.truncate(13);
        let layout = |heading, fields: Vec<_>| Layout {
            heading,
            bytes: join(&fields),
            fields,
        };
        all.push(layout("Digested as terms, once", fields));
        all.push(layout("Digested as terms, for each slot", seat));
        let mut fields = roster_fields(&self.roster());
        let feed = fields.split_off(fields.len() - 1);
        all.push(layout("Digested as a roster, once", fields));
        all.push(layout("Digested as a roster, for each feed", feed));
        let samples = digested_samples(&player.records);
        all.push(Layout {
            heading: "Digested as samples, once",
            bytes: samples[..32].to_vec(),
            fields: vec![("context", padded::<32>("rsoracle 2 samples").to_vec())],
        });
        all.extend(reported(&self.report));
        let change = &self.change;
        all.push(Layout {
            heading: "Signed by a change of keys",
            bytes: change.signed_bytes(),
            fields: vec![
                ("context", padded::<32>("rsoracle 2 key change").to_vec()),
                ("feed", padded::<16>(FEED).to_vec()),
                ("old key", aggregator_key().public().bytes().to_vec()),
                ("new key", new_key().public().bytes().to_vec()),
                ("previous", self.next.signature.to_vec()),
            ],
        });
        let change = self.roster_change();
        all.push(Layout {
            heading: "Signed by a change of roster",
            bytes: change.signed_bytes(),
            fields: vec![
                ("context", padded::<32>("rsoracle 2 roster change").to_vec()),
                ("old digest", change.old.to_vec()),
                ("new digest", change.new.to_vec()),
                ("from", change.from_us.to_be_bytes().to_vec()),
            ],
        });
        all
    }
}

/// The head of a frame, as a field.
fn head(kind: FrameKind) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = [&MAGIC[..], &[VERSION, kind as u8, 0, 0]].concat();
    vec![("head", bytes)]
}

fn frames(player: &Player) -> Vec<Layout> {
    let be = |number: u64| number.to_be_bytes().to_vec();
    let slot = player.slot.to_be_bytes().to_vec();
    let hello = &player.hello;
    let tag = tag(&player.terms_digest).to_vec();
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
    let framed = |kind, fields: Vec<(&'static str, Vec<u8>)>| [head(kind), fields].concat();
    let head_fields = vec![
        ("magic", MAGIC.to_vec()),
        ("version", vec![VERSION]),
        ("kind", vec![FrameKind::Challenge as u8]),
        ("zero", vec![0; 2]),
    ];
    let hello_fields = vec![
        ("public key", hello.key.to_vec()),
        ("clock", be(hello.clock_us)),
        ("signature", hello.signature.to_vec()),
    ];
    let ready_fields = vec![
        ("terms digest", player.terms_digest.to_vec()),
        ("slot", slot),
        ("zero", vec![0; 6]),
        ("first price", be(player.ready().price.to_bits())),
    ];
    let ping_fields = vec![("clock", be(ping().clock_us))];
    let pong_fields = vec![
        ("ping's clock", be(pong().echo_us)),
        ("clock", be(pong().clock_us)),
    ];
    let sample_fields = vec![
        ("tag", tag.clone()),
        ("start", be(START_US)),
        ("record", record.encode().to_vec()),
    ];
    let refusal_fields = vec![
        ("reason", refusal().reason.code().to_be_bytes().to_vec()),
        ("zero", vec![0; 6]),
    ];
    let preamble_fields = vec![("public key", hello.key.to_vec())];
    let observation = &player.observation;
    let observation_fields = vec![
        ("average", be(observation.answer.to_bits())),
        ("timestamp", be(observation.timestamp_us)),
        ("signature", observation.signature.to_vec()),
    ];
    let data_fields = vec![
        ("tag", tag),
        ("start", be(START_US)),
        ("observation", observation.encode().to_vec()),
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
            framed(FrameKind::Challenge, vec![("nonce", player.nonce.to_vec())]),
        ),
        layout(
            "Frame 2, hello",
            &hello.encode(),
            framed(FrameKind::Hello, hello_fields),
        ),
        layout(
            "Frame 3, ready",
            &player.ready().encode(),
            framed(FrameKind::Ready, ready_fields),
        ),
        layout(
            "Frame 4, sample",
            &sample.encode(),
            framed(FrameKind::Sample, sample_fields),
        ),
        layout(
            "Frame 5, ping",
            &ping().encode(),
            framed(FrameKind::Ping, ping_fields),
        ),
        layout(
            "Frame 6, pong",
            &pong().encode(),
            framed(FrameKind::Pong, pong_fields),
        ),
        layout(
            "Frame 7, refusal",
            &refusal().encode(),
            framed(FrameKind::Refusal, refusal_fields),
        ),
        layout(
            "Frame 8, preamble",
            &player.preamble().encode(),
            framed(FrameKind::Preamble, preamble_fields),
        ),
        layout("Data frame", &player.data_frame().encode(), data_fields),
        layout("Observation", &observation.encode(), observation_fields),
        layout("Sample record", &record.encode(), record_fields),
    ]
}

/// The bytes that collectors' signatures cover.
fn signed(player: &Player) -> Vec<Layout> {
    let be = |number: u64| number.to_be_bytes().to_vec();
    let (hello, observation) = (&player.hello, &player.observation);
    let context = |text| ("context", padded::<32>(text).to_vec());
    let layout = |heading, bytes: &[u8], fields| Layout {
        heading,
        bytes: bytes.to_vec(),
        fields,
    };
    let aggregator = aggregator_key().public().bytes().to_vec();
    vec![
        layout(
            "Signed by a hello",
            &player.hello_signed(),
            vec![
                context("rsoracle 2 hello"),
                ("nonce", player.nonce.to_vec()),
                ("aggregator's public key", aggregator),
                ("public key", hello.key.to_vec()),
                ("clock", be(hello.clock_us)),
            ],
        ),
        layout(
            "Signed by an observation",
            &player.observation_signed(),
            vec![
                context("rsoracle 2 observation"),
                ("terms digest", player.terms_digest.to_vec()),
                ("slot", player.slot.to_be_bytes().to_vec()),
                ("start", be(START_US)),
                ("samples digest", samples_digest(&player.records).to_vec()),
                ("average", be(observation.answer.to_bits())),
                ("timestamp", be(observation.timestamp_us)),
            ],
        ),
    ]
}

/// The parts of what the signature of a report covers; together, they are all of it.
fn reported(report: &Report) -> Vec<Layout> {
    let be = |number: u64| number.to_be_bytes().to_vec();
    let two = |number: u16| number.to_be_bytes().to_vec();
    let bits = |value: Option<f64>| be(value.map_or(0, f64::to_bits));
    let (round, outcome, policy) = (&report.round, &report.outcome, &report.policy);
    let signed = report.signed_bytes();
    let mut at = 0;
    let mut layout = |heading, fields: Vec<(&'static str, Vec<u8>)>| {
        let from = at;
        at += join(&fields).len();
        Layout {
            heading,
            bytes: signed[from..at].to_vec(),
            fields,
        }
    };
    let head = vec![
        ("context", padded::<32>("rsoracle 2 report").to_vec()),
        ("number", be(report.number)),
        ("previous", vec![0; 64]),
        (
            "aggregator's public key",
            report.aggregator.bytes().to_vec(),
        ),
        ("ephemeral", two(1)),
        ("terms digest", round.terms.digest().to_vec()),
        ("start", be(START_US)),
        ("decision", two(1)),
        ("price", bits(outcome.price)),
        ("spread", bits(outcome.spread)),
        ("time", be(outcome.timestamp_us.expect("a price"))),
        ("deviation", bits(policy.deviation)),
        ("heartbeat", be(policy.heartbeat_us.expect("one is set"))),
        ("greatest move", bits(policy.move_max)),
        ("last number", vec![0; 8]),
        ("last price", vec![0; 8]),
        ("last time", vec![0xff; 8]),
        ("reasons", two(report.refused.len() as u16)),
    ];
    let mut all = vec![layout("Signed by a report, first", head)];
    for (reason, count) in &report.refused {
        let fields = vec![
            ("reason", two(reason.code())),
            ("count", count.to_be_bytes().to_vec()),
        ];
        all.push(layout("Signed by a report, for each reason", fields));
    }
    let n = vec![("n", two(round.terms.n()))];
    all.push(layout("Signed by a report, behind the reasons", n));
    for part in &round.parts {
        let observation = part.observation.map_or([0; 80], |one| one.encode());
        let records = part.records.len() as u32;
        let fields = vec![
            ("observation", observation.to_vec()),
            ("second's samples digest", vec![0; 32]),
            ("second", vec![0; 80]),
            ("records", records.to_be_bytes().to_vec()),
        ];
        all.push(layout("Signed by a report, for each slot", fields));
        for record in &part.records {
            let encoded = record.encode();
            layout("Sample record", vec![("record", encoded.to_vec())]);
        }
    }
    assert_eq!(at, signed.len(), "nothing comes behind the last slot");
    all
}
