//! A collector that signs two answers for one round is exposed: the two are kept as a proof that anyone can verify.

mod support;

use rsoracle_proof::reason::Abstention;
use rsoracle_proof::record::Answer;
use support::peer::*;
use support::*;

#[test]
fn two_signed_answers_become_a_proof_file_that_verify_confirms_without_knowing_anything_else() {
    let journal = scratch("journal.jsonl");
    let journal = journal.to_str().unwrap();
    let stage = stage_with(2, 5, "1s", &["--ready-timeout", "2m", "--journal", journal]);
    let (mut bad, mut good) = (stage.collector(3), stage.collector(4));
    bad.ready();
    good.ready();
    let (round, round_4) = (bad.round(), good.round());
    let records = records(5, 87_231.42);
    let mut data = bad.play(&round, &records);
    let why = Answer::Abstain(Abstention::ClockMoved);
    data.send(&bad.sign(&round, &records, why, round.start_us).encode());
    data.until_ended();
    let _data = good.play(&round_4, &records);
    let done = stage.running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let proofs = format!("{journal}.proofs");
    let said = format!("signed two different answers for this round; the proof is in {proofs}");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
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
    // The journal has both answers, and neither counts.
    let whole = run(&["verify", journal]);
    assert_eq!(whole.code, Some(5), "{}", whole.stdout);
    let text = std::fs::read_to_string(journal).unwrap();
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
