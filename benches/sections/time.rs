//! Time from process start to the first sample, and from the last observation to the printed result.
//!
//! For the latter, this process plays all five collectors (`--remote 5`), so that it knows when it handed the last
//! observation to the system; on loopback, it has arrived then. The time ends when the result has been read from a pipe. It
//! includes the aggregator's sleep, its checks, the report, printing, and the wake-up of this process.

use crate::figures::{Table, digits, largest, median};
use crate::rounds::{exchange, round};
use crate::support::{eventually, good_certificates, rsoracle, scratch};
use rsoracle::keys::secret::{EnrolmentSecret, SecretKey, hello_bytes};
use rsoracle::system::now::wall_us;
use rsoracle::system::random;
use rsoracle::wire::{Challenge, Hello, Preamble, Ready, RoundFrame, Sample};
use rsoracle_proof::aggregate::Rule;
use rsoracle_proof::answer as sampler;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::seal::{ObservationContext, observation_bytes, samples_digest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const SOURCE: &str = "embedded:BTCUSDT";
const FEED: &str = "BTC/USD";
const STARTS: usize = 9;
const CLOSINGS: u64 = 15;

/// A collector that this process plays.
struct Played {
    slot: u16,
    key: SecretKey,
    control: TcpStream,
    data: TcpStream,
}

fn take<const N: usize>(tcp: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).expect("the aggregator speaks");
    bytes
}

impl Played {
    fn enlist(slot: u16, dir: &Path, control: &str, data: &str) -> Played {
        let path = dir.join(format!("slot-{slot}.enrolment"));
        let enrolment = eventually("an enrolment is written", || {
            std::fs::read(&path).ok().filter(|bytes| bytes.len() == 64)
        });
        let mut secret: [u8; 32] = enrolment[..32].try_into().expect("half of it");
        let secret = EnrolmentSecret::take(&mut secret);
        let key = SecretKey::from_seed(&mut random::bytes().expect("random bytes"));
        let mut control = TcpStream::connect(control).expect("the control channel is open");
        let challenge = Challenge::decode(&take(&mut control)).expect("a challenge");
        let mut hello = Hello {
            slot,
            key: *key.public().bytes(),
            source: padded(SOURCE),
            clock_us: wall_us(),
            signature: [0; 64],
        };
        hello.signature = key.sign(&hello_bytes(&challenge.nonce, &secret, &hello));
        let mut data = TcpStream::connect(data).expect("the data channel is open");
        let preamble = Preamble {
            slot,
            key: hello.key,
        };
        let ready = Ready {
            clock_us: wall_us(),
            price: 87_000.0,
        };
        let said = control
            .write_all(&hello.encode())
            .and_then(|()| data.write_all(&preamble.encode()))
            .and_then(|()| control.write_all(&ready.encode()));
        said.expect("the aggregator listens");
        for tcp in [&control, &data] {
            tcp.set_nodelay(true).expect("a socket option");
        }
        Played {
            slot,
            key,
            control,
            data,
        }
    }

    /// Sends the round's only sample. Returns the observation to send later.
    fn sample(&mut self, round: &RoundFrame) -> [u8; Observation::BYTES] {
        let record = Record {
            index: 0,
            price: Ok(87_000.0 + f64::from(self.slot)),
            lateness_us: Some(1),
            age_us: None,
        };
        let sample = Sample {
            start_us: round.start_us,
            record,
        };
        self.control
            .write_all(&sample.encode())
            .expect("the aggregator listens");
        let (answer, timestamp_us) =
            sampler::answer(&[record], round.start_us, round.interval_us, Rule::Mean);
        let context = ObservationContext {
            terms_digest: &round.terms_digest,
            slot: self.slot,
            feed: FEED,
            source: SOURCE,
            start_us: round.start_us,
            samples: round.samples,
            interval_us: round.interval_us,
            samples_digest: &samples_digest(&[record]),
        };
        let signed = observation_bytes(&context, answer.to_bits(), timestamp_us);
        let observation = Observation {
            answer,
            timestamp_us,
            signature: self.key.sign(&signed),
        };
        observation.encode()
    }
}

/// Runs one round with five played collectors, which send their observations `after_us` after the sample's instant. Returns
/// the milliseconds from the last observation's write to the result's arrival.
fn closing_ms(after_us: u64) -> f64 {
    let dir = scratch("enrolments");
    std::fs::create_dir_all(&dir).expect("a folder for enrolments");
    let mut command = rsoracle();
    command.args([
        "run",
        "--collectors",
        "5",
        "--remote",
        "5",
        "--samples",
        "1",
    ]);
    command.args([
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--source",
        SOURCE,
    ]);
    command.args(["--endpoint", "ws://127.0.0.1:1/unused", "--feed", FEED]);
    command.arg("--enrolment-dir").arg(&dir);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut aggregator = command.spawn().expect("rsoracle starts");
    let mut stderr = BufReader::new(aggregator.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a first line");
    let channel = |mark: &str| {
        let rest = line.split(mark).nth(1).expect("both channels are named");
        rest.split(',').next().unwrap_or(rest).trim().to_owned()
    };
    let (control, data) = (channel("control channel on "), channel("data channel on "));
    let mut played: Vec<Played> = (0..5)
        .map(|slot| Played::enlist(slot, &dir, &control, &data))
        .collect();
    let rounds: Vec<RoundFrame> = played
        .iter_mut()
        .map(|one| RoundFrame::decode(&take(&mut one.control)).expect("a round"))
        .collect();
    let due_us = rounds[0].start_us + after_us;
    std::thread::sleep(Duration::from_micros(due_us.saturating_sub(wall_us())));
    let observations: Vec<_> = played
        .iter_mut()
        .zip(&rounds)
        .map(|(one, round)| one.sample(round))
        .collect();
    for (one, observation) in played.iter_mut().zip(&observations) {
        one.data
            .write_all(observation)
            .expect("the aggregator listens");
    }
    let sent_us = wall_us();
    let mut result = String::new();
    let mut stdout = BufReader::new(aggregator.stdout.take().expect("a pipe"));
    stdout.read_line(&mut result).expect("a result");
    let printed_us = wall_us();
    aggregator.wait().expect("a child can be waited for");
    assert!(result.contains("5 of 5 signatures"), "{result}");
    (printed_us - sent_us) as f64 / 1e3
}

/// Prints the section.
pub fn show(table: &mut Table) {
    let tls = good_certificates();
    let (_with, with) = exchange(Some(&tls), "2ms", false);
    let (_without, without) = exchange(None, "2ms", false);
    let mut medians = Vec::new();
    for (what, url, ca, goal_ms) in [
        (
            "over TLS with --ca-file",
            &with,
            Some(tls.ca.as_str()),
            100.0,
        ),
        ("without TLS", &without, None, 100.0),
    ] {
        let starts: Vec<_> = (0..STARTS).map(|_| round(url, ca, 1, "1s")).collect();
        let ms: Vec<f64> = starts.iter().map(|one| one.to_first_sample_ms()).collect();
        let what = format!("{what}: process start to first sample, median of {STARTS}");
        table.at_most(&what, median(&ms), goal_ms, "ms");
        medians.push(median(&ms));
        table.remark(&format!(
            "largest {} ms; from the instant of the only sample to the result {} ms: request, reply (the exchange polls every 2 ms), signature, check, printing",
            digits(largest(&ms)),
            digits(median(
                &starts.iter().map(|one| one.to_result_ms()).collect::<Vec<_>>()
            ))
        ));
    }
    table.at_most(
        "process start to first sample: with TLS divided by without",
        medians[0] / medians[1],
        100.0 / 60.0,
        "times",
    );
    let closings: Vec<f64> = (0..CLOSINGS)
        .map(|index| closing_ms(1_000 + index * 700))
        .collect();
    table.at_most(
        "arrival of the last of 5 observations to printed result, median",
        median(&closings),
        5.0,
        "ms",
    );
    table.remark(&format!(
        "largest of {CLOSINGS}: {} ms; observations sent 1 to 11 ms after the instant",
        digits(largest(&closings))
    ));
    let whole = round(&with, Some(&tls.ca), 10, "1s");
    let all_ms = (whole.printed_us - whole.spawned_us) as f64 / 1e3;
    table.at_most(
        "ten samples 1 s apart, over TLS: process start to printed result",
        all_ms / 1e3,
        9.305,
        "s",
    );
    table.remark(&format!(
        "9 s, {} ms before, {} ms after",
        digits(whole.to_first_sample_ms()),
        digits(whole.to_result_ms())
    ));
}
