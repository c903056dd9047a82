//! The certificate of a server: any bytes are read or refused, and what is shown of them is short and printable.
#![no_main]

use rsoracle::exchange::certificate::Certificate;

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    let Some(certificate) = Certificate::read(der) else {
        return;
    };
    let issuer = &certificate.issuer;
    assert!(
        !issuer.is_empty() && issuer.chars().count() <= 65,
        "{issuer:?}"
    );
    assert!(!issuer.contains(char::is_control), "{issuer:?}");
    for now_us in [0, certificate.not_after_us, u64::MAX] {
        certificate.days_left(now_us);
    }
    for end in 0..der.len().min(300) {
        Certificate::read(&der[..end]);
    }
});
