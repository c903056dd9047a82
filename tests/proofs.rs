//! A collector that signs two answers for one round is exposed: the two are kept as a proof that anyone can verify.

mod support;

use rsoracle_proof::reason::{Abstention, Reject};
use rsoracle_proof::record::{Answer, Observation};
use support::peer::*;
use support::*;

/// Samples per round.
const SAMPLES: u32 = 5;
const PRICE: f64 = 87_231.42;

/// Runs a round with two collectors of the test: a good one, and one that signs two answers. `lie` sends them, and must leave the
/// second refused. Returns the stage and the liar.
fn lied(lie: impl FnOnce(&Stage, &mut TestCollector, &RoundOf)) -> (Stage, TestCollector) {
    let stage = stage(2, SAMPLES, "1s");
    let (mut bad, mut good) = (stage.collector(3), stage.collector(4));
    bad.ready();
    good.ready();
    let round = stage.round(&mut [&mut bad, &mut good]);
    lie(&stage, &mut bad, &round);
    let _data = good.play(&round, &records(SAMPLES, PRICE));
    let (report, stderr) = stage.report(&round);
    assert_eq!(report.collectors[3].standing, "equivocated", "{stderr}");
    assert_eq!(report.refused(), counts(&[(Reject::Equivocation, 1)]));
    report.assert_price_within_the_first(3);
    (stage, bad)
}

#[test]
fn answers_over_different_samples_are_a_proof_too_though_each_fits_those_of_its_connection() {
    let (stage, bad) = lied(|stage, bad, round| {
        let mut second = stage.collector(3);
        let first = records(SAMPLES, PRICE);
        let mut others = first.clone();
        others[0].lateness_us = Some(6);
        for (one, other) in first.iter().zip(&others) {
            bad.send_samples(round, &[*one]);
            second.send_sample(round, *other);
        }
        let [one, other] = [&first, &others].map(|records| bad.honest(round, records));
        let said = |one: &Observation| (one.answer, one.timestamp_us);
        assert_eq!(said(&one), said(&other));
        let mut data = bad.send_observation(round, &one.encode());
        data.send(&data_frame(round, &other.encode()));
        data.until_ended();
    });
    let checked = run(&["verify", &format!("{}.proofs", stage.journal())]).stdout;
    let key = rsoracle_proof::seal::hex(bad.key.public().bytes());
    assert!(checked.contains(&key), "{checked}");
    assert!(checked.contains("verdict: proved"), "{checked}");
}

#[test]
fn two_signed_answers_become_a_proof_file_that_verify_confirms_without_knowing_anything_else() {
    let (stage, bad) = lied(|_, bad, round| {
        let records = records(SAMPLES, PRICE);
        let mut data = bad.play(round, &records);
        let why = Answer::Abstain(Abstention::ClockMoved);
        let second = bad.sign(round, &records, why, round.start_us);
        data.send(&data_frame(round, &second.encode()));
        data.until_ended();
    });
    let told = stage.running.stderr();
    let proofs = format!("{}.proofs", stage.journal());
    let said = format!("signed two different answers for this round; the proof is in {proofs}");
    assert!(told.contains(&said), "{told}");
    let key = rsoracle_proof::seal::hex(bad.key.public().bytes());
    let checked = run(&["verify", &proofs]);
    assert_eq!(
        (checked.code, checked.stderr.as_str()),
        (Some(5), ""),
        "{}",
        checked.stdout
    );
    let named =
        format!("the holder of the key {key} signed two different answers for the round of 20");
    assert!(checked.stdout.contains(&named), "{}", checked.stdout);
    assert!(
        checked.stdout.contains("verdict: proved"),
        "{}",
        checked.stdout
    );
    let json = run(&["verify", &proofs, "--json"]).stdout;
    assert!(json.contains("\"verdict\":\"proved\""), "{json}");
    // The journal has both answers, and neither counts. (The aggregator goes on: its last line may be unfinished.)
    let text = std::fs::read_to_string(stage.journal()).unwrap();
    let text = &text[..=text.rfind('\n').expect("a line")];
    let journal = scratch("journal.jsonl");
    std::fs::write(&journal, text).unwrap();
    let whole = run(&["verify", journal.to_str().unwrap()]);
    assert_eq!(whole.code, Some(5), "{}", whole.stdout);
    assert!(text.contains("\"standing\":\"equivocated\""), "{text}");
    // A proof that was changed proves nothing.
    let proof = std::fs::read_to_string(&proofs).unwrap();
    let forged = scratch("forged.proofs");
    for (from, to) in [
        ("\"slot\":3", "\"slot\":4"),
        ("87231.42", "87231.43"),
        (key.as_str(), &"a1".repeat(32)),
    ] {
        assert!(proof.contains(from), "{from} in {proof}");
        std::fs::write(&forged, proof.replacen(from, to, 1)).unwrap();
        let checked = run(&["verify", forged.to_str().unwrap()]);
        assert_eq!(checked.code, Some(1), "{from}: {}", checked.stdout);
        assert!(
            checked.stdout.contains("verdict: INVALID"),
            "{}",
            checked.stdout
        );
    }
}
