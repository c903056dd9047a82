//! Time from process start to the first sample, and from the last observation to the printed result.
//!
//! For the latter, this process plays all five collectors of an `rsoracle aggregate`, so that it knows when it handed the last
//! observation to the system; on loopback, it has arrived then. The time ends when the result has been read from a pipe. It
//! includes the aggregator's sleep, its checks, the report, printing, and the wake-up of this process.

use crate::figures::{Table, digits, largest, median};
use crate::rounds::{exchange, round};
use crate::support::peer::{RoundOf, collector_key, context, hello, roster};
use crate::support::{good_certificates, rsoracle, scratch};
use rsoracle::keys::create;
use rsoracle::keys::secret::SecretKey;
use rsoracle::system::now::wall_us;
use rsoracle::wire::{Challenge, DataFrame, Preamble, Ready, Sample};
use rsoracle_proof::answer as sampler;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::{PublicKey, observation_bytes, samples_digest};
use rsoracle_proof::terms::{Terms, tag};
use rsoracle_proof::utc::utc_us;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::time::Duration;

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
    fn enlist(slot: u16, terms: &Terms, aggregator: &PublicKey, at: &[String; 2]) -> Played {
        let [control, data] = at;
        let key = collector_key(slot);
        let mut control = TcpStream::connect(control).expect("the control channel is open");
        let challenge = Challenge::decode(&take(&mut control)).expect("a challenge");
        let hello = hello(&key, &challenge.nonce, aggregator);
        let mut data = TcpStream::connect(data).expect("the data channel is open");
        let preamble = Preamble { key: hello.key };
        let ready = Ready {
            terms_digest: terms.digest(),
            slot,
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

    /// Sends the round's only sample. Returns the frame of the observation, to send later.
    fn sample(&mut self, terms: &Terms, round: &RoundOf) -> [u8; DataFrame::BYTES] {
        let record = Record {
            index: 0,
            price: Ok(87_000.0 + f64::from(self.slot)),
            lateness_us: Some(1),
            age_us: None,
        };
        let (tag, start_us) = (tag(&round.terms_digest), round.start_us);
        let sample = Sample {
            tag,
            start_us,
            record,
        };
        self.control
            .write_all(&sample.encode())
            .expect("the aggregator listens");
        let interval_us = terms.schedule.interval_us;
        let (answer, timestamp_us) =
            sampler::answer(&[record], start_us, interval_us, terms.sample_rule);
        let digest = samples_digest(&[record]);
        let context = context(self.slot, round, &digest);
        let signed = observation_bytes(&context, answer.to_bits(), timestamp_us);
        let observation = Observation {
            answer,
            timestamp_us,
            signature: self.key.sign(&signed),
        };
        let observation = observation.encode();
        DataFrame {
            tag,
            start_us,
            observation,
        }
        .encode()
    }
}

/// The next line of a program with this part.
fn line_with(part: &str, stderr: &mut BufReader<ChildStderr>) -> String {
    let lines = stderr.lines().map(|line| line.expect("it is text"));
    let mut lines = lines.filter(|line| line.contains(part));
    lines.next().expect("it says so before it ends")
}

/// Runs one round with five played collectors, which send their observations `after_us` after the sample's instant. Returns
/// the milliseconds from the last observation's write to the result's arrival.
fn closing_ms(after_us: u64) -> f64 {
    let (file, own) = (scratch("roster.toml"), scratch("aggregator.key"));
    let keys: Vec<PublicKey> = (0..5).map(|slot| collector_key(slot).public()).collect();
    let text = roster(&keys, 1, "1s");
    std::fs::write(&file, &text).expect("a roster file");
    let terms = Roster::parse(&text).expect("a roster").feeds.remove(0);
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let key = create(&path(&own)).expect("a key file");
    let mut command = rsoracle();
    command.args(["aggregate", "--rounds", "1", "--roster", &path(&file)]);
    command.args(["--aggregator-key", &path(&own)]);
    command.args(["--control-port", "0", "--data-port", "0"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut aggregator = command.spawn().expect("rsoracle starts");
    let mut stderr = BufReader::new(aggregator.stderr.take().expect("a pipe"));
    let line = line_with("control channel on ", &mut stderr);
    let channels = ["control channel on ", "data channel on "].map(|mark| {
        let rest = line.split(mark).nth(1).expect("both channels are named");
        rest.split(',').next().unwrap_or(rest).trim().to_owned()
    });
    let mut played: Vec<Played> = (0..5)
        .map(|slot| Played::enlist(slot, &terms, &key, &channels))
        .collect();
    let line = line_with(" collectors ready; ", &mut stderr);
    let (_, start) = line.rsplit_once("from ").expect("the time of its start");
    let round = RoundOf::new(&terms, utc_us(start).expect("a time"));
    let due_us = round.start_us + after_us;
    std::thread::sleep(Duration::from_micros(due_us.saturating_sub(wall_us())));
    let frames: Vec<_> = played
        .iter_mut()
        .map(|one| one.sample(&terms, &round))
        .collect();
    for (one, frame) in played.iter_mut().zip(&frames) {
        one.data.write_all(frame).expect("the aggregator listens");
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
