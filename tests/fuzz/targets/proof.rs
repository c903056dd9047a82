//! The proof that a collector lied: a proof that is read makes the same line, and proves nothing unless both signatures are
//! valid.
#![no_main]

use rsoracle_proof::report::{Proof, Verifier};
use rsoracle_proof::seal::Keys;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let flaws = Verifier::default().check(text, u64::MAX).flaws;
    let Ok(proof) = Proof::read(text, &mut Keys::default()) else {
        return assert!(!flaws.is_empty());
    };
    let line = proof.line();
    let again = Proof::read(&line, &mut Keys::default());
    assert_eq!(again.ok().as_ref(), Some(&proof), "{line}");
    if flaws.is_empty() {
        assert_eq!(line, text);
        let [first, second] = proof.answers;
        assert!(!first.says_the_same_as(&second));
    }
});
