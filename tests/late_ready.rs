//! A collector that says that it is ready only once the round has begun without it.

mod support;

use rsoracle::keys::secret::{EnrolmentSecret, SecretKey, hello_bytes};
use rsoracle::wire::{Challenge, Hello, Ready};
use rsoracle_proof::bytes::padded;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use support::*;

/// Lets a collector into slot 3 with the enrolment in `file`; it then says no more.
fn enrol(control: SocketAddr, file: &Path) -> TcpStream {
    let enrolment = eventually("the enrolment is written", || {
        std::fs::read(file).ok().filter(|bytes| bytes.len() == 64)
    });
    let mut secret: [u8; 32] = *enrolment.first_chunk().expect("64 bytes");
    let secret = EnrolmentSecret::take(&mut secret);
    let mut tcp = TcpStream::connect(control).expect("the control port is open");
    tcp.set_read_timeout(Some(LONG)).unwrap();
    let mut bytes = [0; Challenge::BYTES];
    tcp.read_exact(&mut bytes).expect("a challenge");
    let Challenge { nonce } = Challenge::decode(&bytes).expect("a sound challenge");
    let key = SecretKey::from_seed(&mut [9; 32]);
    let mut hello = Hello {
        slot: 3,
        key: *key.public().bytes(),
        source: padded("embedded:BTCUSDT"),
        clock_us: rsoracle::system::wait::wall_us(),
        signature: [0; 64],
    };
    hello.signature = key.sign(&hello_bytes(&nonce, &secret, &hello));
    tcp.write_all(&hello.encode()).expect("the hello is sent");
    tcp
}

#[test]
fn a_round_does_not_wait_for_a_collector_that_was_not_told_of_it() {
    let file = scratch("slot-3.enrolment");
    let dir = file.parent().unwrap().to_str().unwrap();
    let running = start(&[
        "run",
        "--source",
        "embedded:BTCUSDT",
        "--collectors",
        "4",
        "--remote",
        "1",
        "--enrolment-dir",
        dir,
        "--ready-timeout",
        "3s",
        "--samples",
        "5",
        "--interval",
        "200ms",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
    ]);
    let mut tcp = enrol(running.channels().0, &file);
    running.stderr_line("collectors ready; 5 samples");
    let ready = Ready {
        clock_us: rsoracle::system::wait::wall_us(),
        price: 87231.4,
    };
    tcp.write_all(&ready.encode()).expect("ready is sent");
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let remark = "no first price from the exchange in time";
    assert_eq!(done.remark(3), Some(remark), "not awaited");
    assert!(done.stdout.contains(r#""prices":3"#), "{}", done.stdout);
}
