//! A real `rsoracle collect` whose aggregator the test plays. Each test uses a part of this module.
#![allow(dead_code)]

use super::support::peer::{Peer, SOURCE};
use super::support::{Running, eventually, rsoracle, scratch, start_command};
use rsoracle::keys::secret::{EnrolmentSecret, SecretKey, hello_bytes, round_bytes};
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, Hello, Preamble, Ready, RoundFrame, Sample};
use rsoracle_proof::bytes::padded;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;
use rsoracle_proof::seal::PublicKey;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// The secret of the enrolment.
pub const SECRET: [u8; 32] = [5; 32];

/// The two ports of an aggregator that the test plays.
pub struct Ports {
    /// The listener of the control channel.
    pub control: TcpListener,
    /// The listener of the data channel.
    pub data: TcpListener,
}

/// Listens on two free ports.
pub fn ports() -> Ports {
    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        listener
    };
    Ports {
        control: listen(),
        data: listen(),
    }
}

/// The key of the aggregator that the test plays.
pub fn aggregator_key() -> SecretKey {
    SecretKey::from_seed(&mut [99; 32])
}

/// The enrolment of slot 3.
pub fn enrolment() -> Vec<u8> {
    [&SECRET[..], aggregator_key().public().bytes()].concat()
}

/// The address of a listener.
pub fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

/// The next connection to a listener, if there is one.
pub fn try_accept(listener: &TcpListener) -> Option<Peer> {
    match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(Peer::over(accepted.expect("a connection").0)),
    }
}

/// Waits for the next connection to a listener.
pub fn accept(listener: &TcpListener) -> Peer {
    eventually("the collector connects", || try_accept(listener))
}

/// Starts the collector of slot 3 with these bytes on its standard input.
pub fn collect(ports: &Ports, exchange_url: &str, enrolment: &[u8]) -> Running {
    let path = scratch("enrolment");
    std::fs::write(&path, enrolment).expect("a file");
    let mut command = rsoracle();
    command.args(["collect", "--slot", "3", "--source", SOURCE]);
    command.args(["--endpoint", exchange_url]);
    command.args(["--control", &address(&ports.control).to_string()]);
    command.args(["--data", &address(&ports.data).to_string()]);
    command.stdin(File::open(&path).expect("the file"));
    start_command(command)
}

/// A collector that is ready for a round, and its connections.
pub struct Enlisted {
    /// Its process.
    pub running: Running,
    /// Its control connection.
    pub control: Peer,
    /// Its data connection.
    pub data: Peer,
    /// The nonce of its challenge.
    pub nonce: [u8; 32],
    /// Its hello.
    pub hello: Hello,
}

/// Starts a collector, and lets it in.
pub fn enlist(ports: &Ports, exchange_url: &str) -> Enlisted {
    let running = collect(ports, exchange_url, &enrolment());
    let mut control = accept(&ports.control);
    let nonce = [42; 32];
    control.send(&Challenge { nonce }.encode());
    let hello = Hello::decode(&control.next()).expect("a hello");
    let key = PublicKey::decode(&hello.key).expect("a key");
    let secret = EnrolmentSecret::take(&mut SECRET.clone());
    assert!(key.signed(&hello_bytes(&nonce, &secret, &hello), &hello.signature));
    assert_eq!((hello.slot, hello.source), (3, padded(SOURCE)));
    let mut data = accept(&ports.data);
    let preamble = Preamble::decode(&data.next()).expect("a preamble");
    assert_eq!((preamble.slot, preamble.key), (3, hello.key));
    Ready::decode(&control.next()).expect("ready");
    Enlisted {
        running,
        control,
        data,
        nonce,
        hello,
    }
}

impl Enlisted {
    /// A valid round of two samples, which starts late enough to be read in time.
    pub fn round(&self) -> RoundFrame {
        self.signed(wall_us() + 4_000_000, 2, 20_000)
    }

    /// A round that the aggregator signed.
    pub fn signed(&self, start_us: u64, samples: u32, interval_us: u64) -> RoundFrame {
        let round = RoundFrame {
            start_us,
            interval_us,
            samples,
            terms_digest: [8; 32],
            signature: [0; 64],
        };
        self.seal(round, &aggregator_key())
    }

    /// Signs a round with this key.
    pub fn seal(&self, mut round: RoundFrame, key: &SecretKey) -> RoundFrame {
        round.signature = key.sign(&round_bytes(&self.nonce, &self.hello.signature, &round));
        round
    }

    /// Waits for all samples of a round and for the answer.
    pub fn answers(&mut self, round: &RoundFrame) {
        for index in 0..round.samples {
            let sample = Sample::decode(&self.control.next()).expect("a sample");
            let found = (sample.start_us, sample.record.index);
            assert_eq!(found, (round.start_us, index));
        }
        Observation::decode(&self.data.next()).expect("an observation");
    }

    /// Sends these bytes. The collector must refuse them for `reason`, end, and sign nothing.
    pub fn refuses(mut self, bytes: &[u8], reason: Reject) {
        self.control.send(bytes);
        assert_eq!(self.control.refusal(), reason);
        self.data.until_ended();
        assert_eq!(self.data.got(), [0u8; 0], "nothing was signed");
        let done = self.running.finish();
        let line = format!("collector 3: refused a frame of the aggregator: {reason}; ");
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.starts_with(&line), "{}", done.stderr);
    }
}
