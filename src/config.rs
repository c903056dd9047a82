//! The commands of rsoracle: their flags, and what a command line means once it is checked.
//!
//! Invariant: a configuration that comes out of here is consistent in itself; the roles ask no further questions.
//! What this module does not do: look at the system (files, ports, names); the roles do, and say what is wrong there.

use crate::aggregate::{Rule, faulty_max, quorum};
use crate::args::{Command, Flag, Given, Usage, duration_text, wrong};
use crate::limits;
use crate::seal::unhex;
use crate::source::check_feed;
use std::net::{IpAddr, SocketAddr};

pub use crate::source::{Endpoint, Source, exchange_of};

const fn flag(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        default,
        repeats: false,
        help,
    }
}

const SOURCE: Flag = flag(
    "source",
    "EXCHANGE:SYMBOL",
    "binance:BTCUSDC",
    "What is watched; 'embedded:BTCUSDT' replays recorded trades.",
);
const FEED: Flag = flag(
    "feed",
    "NAME",
    "BTC/USD",
    "What is priced; it is part of what is signed.",
);
const SAMPLE_RULE: Flag = flag(
    "sample-rule",
    "RULE",
    "mean",
    "mean or median: what a collector makes of its samples.",
);
const ENDPOINT: Flag = flag(
    "endpoint",
    "URL",
    "",
    "Where the embedded exchange listens, such as wss://localhost:9443/ws-api/v3; only for 'embedded:' sources.",
);
const CA_FILE: Flag = flag(
    "ca-file",
    "FILE",
    "",
    "Trust the certificates in this PEM file too, besides the system's or those that SSL_CERT_FILE names.",
);

/// `rsoracle run`
pub static RUN: Command = Command {
    name: "run",
    job: "aggregator with local collectors: takes one round and prints one verified price",
    notes: "Exit codes: 0 price published, 1 runtime failure, 2 usage, 3 no quorum (no price).\n\
            The result goes to standard output, everything else to standard error.",
    example: "rsoracle run --source embedded:BTCUSDT --samples 5 --interval 200ms",
    operands: "",
    flags: &[
        flag("collectors", "N", "5", "How many collectors (slots)."),
        flag("samples", "N", "10", "Samples per round and collector."),
        flag(
            "interval",
            "DURATION",
            "1s",
            "From one sample to the next: 250ms, 1s, 2m.",
        ),
        SOURCE,
        FEED,
        flag(
            "rule",
            "RULE",
            "trimmed-mean",
            "trimmed-mean, median or mean.",
        ),
        SAMPLE_RULE,
        flag(
            "control-port",
            "PORT",
            "8000",
            "TCP port of the control channel; 0 takes a free one.",
        ),
        flag(
            "data-port",
            "PORT",
            "8080",
            "TCP port of the data channel; 0 takes a free one.",
        ),
        flag(
            "bind",
            "ADDRESS",
            "127.0.0.1",
            "Address that both ports are opened on.",
        ),
        CA_FILE,
        flag(
            "ready-timeout",
            "DURATION",
            "10s",
            "How long collectors may take to be ready; then a quorum starts without the rest.",
        ),
        flag(
            "remote",
            "N",
            "0",
            "The last N slots are not started here: their collectors come from elsewhere, with an enrolment file each.",
        ),
        flag(
            "enrolment-dir",
            "DIR",
            "",
            "Where the enrolment files of remote collectors are written (slot-N.enrolment, secret, mode 0600).",
        ),
        ENDPOINT,
        flag(
            "aggregator-key",
            "FILE",
            "",
            "Sign rounds with this key, made by 'rsoracle keygen', instead of a fresh one.",
        ),
        flag(
            "collector-keys",
            "DIR",
            "",
            "Local collectors sign with DIR/slot-N.key instead of fresh keys; what is missing is made.",
        ),
        flag(
            "write-roster",
            "FILE",
            "",
            "Write whom to trust for this price, once all keys are known.",
        ),
        flag("json", "", "", "Print the result as one JSON object."),
        flag(
            "quiet",
            "",
            "",
            "No progress on standard error, only errors.",
        ),
    ],
};

/// `rsoracle collect`
pub static COLLECT: Command = Command {
    name: "collect",
    job: "one collector: samples its source when the aggregator says, signs the average, sends it",
    notes: "'rsoracle run' starts its collectors itself. A remote one is started by hand, with its enrolment on standard\n\
            input: 64 bytes, the one-time secret and the aggregator's public key, as 'run --enrolment-dir' writes them.\n\
            It ends when the aggregator does.",
    example: "rsoracle collect --slot 4 --source binance:BTCUSDC --control 192.0.2.7:8000 --data 192.0.2.7:8080 < slot-4.enrolment",
    operands: "",
    flags: &[
        flag(
            "slot",
            "N",
            "",
            "Index in the aggregator's roster, from 0; required.",
        ),
        SOURCE,
        FEED,
        flag(
            "control",
            "ADDRESS:PORT",
            "127.0.0.1:8000",
            "The aggregator's control channel.",
        ),
        flag(
            "data",
            "ADDRESS:PORT",
            "127.0.0.1:8080",
            "The aggregator's data channel.",
        ),
        SAMPLE_RULE,
        CA_FILE,
        ENDPOINT,
        flag(
            "key",
            "FILE",
            "",
            "Sign with this key, made by 'rsoracle keygen', instead of a fresh one.",
        ),
    ],
};

/// `rsoracle exchange`
pub static EXCHANGE: Command = Command {
    name: "exchange",
    job: "the embedded exchange: answers 'ticker.price' as Binance does, from recorded trades",
    notes: "Faults: NAME[:VALUE][@K|@K..]; @K: only a connection's K-th request, @K..: from the K-th on, neither: every one.\n\
            \x20 drop            close the connection instead of answering\n\
            \x20 hang            never answer on this connection again\n\
            \x20 garbage         answer with text that is not JSON\n\
            \x20 wrong-id        answer with another id\n\
            \x20 wrong-symbol    answer with another symbol\n\
            \x20 price:TEXT      answer with this text as the price (NaN, 0, -1, 1e400, nothing, abc)\n\
            \x20 scale:FACTOR    answer with the price times this factor: a lie\n\
            \x20 large           answer with a message of 20 MB\n\
            \x20 status:429:DURATION, status:418:DURATION\n\
            \x20                 answer with this error, 'retryAfter' that far ahead\n\
            \x20 upgrade:CODE    refuse the websocket upgrade with this HTTP status (451, 403, 418, 429)\n\
            \x20 ping            send a ping with a payload before answering, and answer only once it was echoed\n\
            \x20 slow:DURATION   answer this much later",
    example: "rsoracle exchange --listen 127.0.0.1:9443 --fault garbage@3",
    operands: "",
    flags: &[
        flag(
            "listen",
            "ADDRESS:PORT",
            "127.0.0.1:9443",
            "Where to listen; port 0 takes a free one.",
        ),
        flag(
            "tape",
            "FILE",
            "",
            "Replay this price tape instead of the built-in one.",
        ),
        flag("speed", "FACTOR", "1", "How fast the tape runs."),
        Flag {
            name: "fault",
            value: "FAULT",
            default: "",
            repeats: true,
            help: "Misbehave on request; see above.",
        },
        flag(
            "cert",
            "FILE",
            "",
            "Certificate chain (PEM): speak TLS. Needs --key.",
        ),
        flag(
            "key",
            "FILE",
            "",
            "Private key of the certificate (PEM, PKCS #8).",
        ),
        flag(
            "poll",
            "DURATION",
            "2ms",
            "Longest nap between two looks at the connections; 0ms never naps.",
        ),
        flag(
            "until-eof",
            "",
            "",
            "End when standard input, a socket, is closed: for a parent that may die.",
        ),
    ],
};

/// `rsoracle keygen`
pub static KEYGEN: Command = Command {
    name: "keygen",
    job: "makes a secret key in a new file that only you can read, and prints its public key",
    notes: "It overwrites nothing. Whoever has the file can sign in its owner's name: keep it where only the process that signs\n\
            runs. Others get the public key, in a roster file.",
    example: "rsoracle keygen aggregator.key",
    operands: "FILE",
    flags: &[],
};

/// `rsoracle keys`
pub static KEYS: Command = Command {
    name: "keys",
    job: "prints the public keys of key files, a line each",
    notes: "",
    example: "rsoracle keys keys/slot-0.key keys/slot-1.key",
    operands: "FILE…",
    flags: &[],
};

/// `rsoracle verify`
pub static VERIFY: Command = Command {
    name: "verify",
    job: "checks reports offline: form, signatures, prices, and whom they are signed by",
    notes: "It takes what 'run --json' prints or 'run --journal' keeps: one report, many, or a whole journal; '-' is standard input.\n\
            Exit codes: 0 valid and signed by the roster's collectors, 1 invalid, 2 usage, 4 unreadable, 5 consistent but signers\n\
            unknown (no --roster).",
    example: "rsoracle verify journal.jsonl --roster roster.toml --max-age 60s",
    operands: "FILE…",
    flags: &[
        flag(
            "roster",
            "FILE",
            "",
            "Whom you trust: feed, rule, f, quorum, collectors (run --write-roster writes one).",
        ),
        flag(
            "head",
            "SIGNATURE",
            "",
            "The signature of the report that must be the last, in 128 hexadecimal digits.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "Refuse if the last price is older than this.",
        ),
        flag(
            "json",
            "",
            "",
            "One JSON object per file instead of sentences.",
        ),
    ],
};

/// All commands that take flags or operands, in the order of the help text.
pub static COMMANDS: [&Command; 6] = [&RUN, &VERIFY, &COLLECT, &EXCHANGE, &KEYGEN, &KEYS];

/// What `rsoracle run` is to do.
#[derive(Clone, Debug)]
pub struct Run {
    /// Slots in the roster.
    pub collectors: u16,
    /// Of these, how many come from elsewhere (the last ones).
    pub remote: u16,
    /// Where the enrolment files of remote collectors go.
    pub enrolment_dir: Option<String>,
    /// Samples per round.
    pub samples: u32,
    /// From one sample to the next.
    pub interval_us: u64,
    /// What every collector watches.
    pub source: Source,
    /// Where the embedded exchange is, if it is not to be started.
    pub endpoint: Option<Endpoint>,
    /// What is priced.
    pub feed: String,
    /// How prices become one.
    pub rule: Rule,
    /// How a collector's samples become one.
    pub sample_rule: Rule,
    /// Control channel, port 0 for any.
    pub control: SocketAddr,
    /// Data channel, port 0 for any.
    pub data: SocketAddr,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// How long collectors may take to be ready.
    pub ready_timeout_us: u64,
    /// The aggregator's key, if not a fresh one.
    pub aggregator_key: Option<String>,
    /// Where the keys of local collectors are, if not fresh ones.
    pub collector_keys: Option<String>,
    /// Where the roster goes.
    pub write_roster: Option<String>,
    /// Print JSON.
    pub json: bool,
    /// Print no progress.
    pub quiet: bool,
}

/// What `rsoracle collect` is to do.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Index in the roster.
    pub slot: u16,
    /// What is watched.
    pub source: Source,
    /// Where, if not where the source usually is.
    pub endpoint: Option<Endpoint>,
    /// What is priced.
    pub feed: String,
    /// The aggregator's control channel.
    pub control: SocketAddr,
    /// The aggregator's data channel.
    pub data: SocketAddr,
    /// How samples become one.
    pub sample_rule: Rule,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<String>,
    /// Its key, if not a fresh one.
    pub key: Option<String>,
}

fn source_and_endpoint(given: &Given) -> Result<(Source, Option<Endpoint>), Usage> {
    let name = given.required("source")?;
    let source = Source::parse(name).map_err(|right| wrong("source", name, right))?;
    let endpoint = match given.text("endpoint") {
        Some(url) => Some(Endpoint::parse(url).map_err(|right| wrong("endpoint", url, right))?),
        None => None,
    };
    if endpoint.is_some() && !source.embedded {
        return Err(Usage(format!(
            "--endpoint goes with an 'embedded:' source only; what is signed as {} must come from {} itself",
            source.name,
            source.exchange()
        )));
    }
    Ok((source, endpoint))
}

fn sample_rule(given: &Given) -> Result<Rule, Usage> {
    const RIGHT: &str = "mean or median";
    match given.read("sample-rule", RIGHT)? {
        Rule::TrimmedMean => Err(wrong("sample-rule", Rule::TrimmedMean.name(), RIGHT)),
        rule => Ok(rule),
    }
}

fn feed(given: &Given) -> Result<String, Usage> {
    let feed = given.required("feed")?;
    check_feed(feed).map_err(|right| wrong("feed", feed, right))?;
    Ok(feed.to_owned())
}

/// A path, if one is given. An empty one is what an unset variable in a script leaves, never what was meant.
fn path(given: &Given, name: &str) -> Result<Option<String>, Usage> {
    match given.text(name) {
        Some("") => Err(wrong(name, "", "a path")),
        text => Ok(text.map(str::to_owned)),
    }
}

impl Run {
    /// Makes sense of the flags of [`RUN`].
    pub fn from_flags(given: &Given) -> Result<Run, Usage> {
        let (source, endpoint) = source_and_endpoint(given)?;
        let bind: IpAddr =
            given.read("bind", "an IP address of this machine, such as 127.0.0.1")?;
        let run = Run {
            collectors: given.number("collectors", 1..=limits::COLLECTORS_MAX)?,
            remote: given.number("remote", 0..=limits::COLLECTORS_MAX)?,
            enrolment_dir: given.text("enrolment-dir").map(str::to_owned),
            samples: given.number("samples", 1..=limits::SAMPLES_MAX)?,
            interval_us: given.duration_us(
                "interval",
                limits::INTERVAL_US_MIN..=limits::INTERVAL_US_MAX,
            )?,
            source,
            endpoint,
            feed: feed(given)?,
            rule: given.read("rule", "trimmed-mean, median or mean")?,
            sample_rule: sample_rule(given)?,
            control: SocketAddr::new(bind, given.number("control-port", 0..=u16::MAX)?),
            data: SocketAddr::new(bind, given.number("data-port", 0..=u16::MAX)?),
            ca_file: given.text("ca-file").map(str::to_owned),
            ready_timeout_us: given.duration_us("ready-timeout", 100_000..=3_600_000_000)?,
            aggregator_key: path(given, "aggregator-key")?,
            collector_keys: path(given, "collector-keys")?,
            write_roster: path(given, "write-roster")?,
            json: given.switch("json"),
            quiet: given.switch("quiet"),
        };
        run.check()?;
        Ok(run)
    }

    /// f: how many collectors may lie.
    pub fn f(&self) -> u16 {
        faulty_max(self.rule, self.collectors)
    }

    /// The fewest prices from which one may be published.
    pub fn quorum(&self) -> u16 {
        quorum(self.collectors, self.f())
    }

    fn check(&self) -> Result<(), Usage> {
        if self.control.port() == self.data.port() && self.control.port() != 0 {
            let port = self.control.port();
            return Err(Usage(format!(
                "--control-port and --data-port are both {port}; the two channels need a port each"
            )));
        }
        if u64::from(self.samples - 1) * self.interval_us > limits::ROUND_US_MAX {
            let longest = duration_text(limits::ROUND_US_MAX);
            return Err(Usage(format!(
                "--samples times --interval is longer than {longest}; take fewer samples or a shorter interval"
            )));
        }
        match (self.remote, &self.enrolment_dir) {
            (remote, _) if remote > self.collectors => Err(Usage(format!(
                "--remote {remote} is more than --collectors {}; remote collectors are some of them",
                self.collectors
            ))),
            (1.., None) => Err(Usage(
                "--remote needs --enrolment-dir DIR, where the enrolment files go".into(),
            )),
            (0, Some(_)) => Err(Usage(
                "--enrolment-dir goes with --remote N; no collector here is remote".into(),
            )),
            _ => Ok(()),
        }
    }
}

impl Collect {
    /// Makes sense of the flags of [`COLLECT`].
    pub fn from_flags(given: &Given) -> Result<Collect, Usage> {
        let (source, endpoint) = source_and_endpoint(given)?;
        if source.embedded && endpoint.is_none() {
            return Err(Usage(
                "an 'embedded:' source needs --endpoint URL, where the embedded exchange listens"
                    .into(),
            ));
        }
        Ok(Collect {
            slot: given.number("slot", 0..=limits::COLLECTORS_MAX - 1)?,
            source,
            endpoint,
            feed: feed(given)?,
            control: given.address("control")?,
            data: given.address("data")?,
            sample_rule: sample_rule(given)?,
            ca_file: given.text("ca-file").map(str::to_owned),
            key: path(given, "key")?,
        })
    }
}

/// What `rsoracle verify` is to check, and against what.
#[derive(Clone, Debug)]
pub struct Verify {
    /// The files; `-` is standard input.
    pub files: Vec<String>,
    /// The roster's file.
    pub roster: Option<String>,
    /// The signature of the report that must be the last.
    pub head: Option<[u8; 64]>,
    /// How old the last price may be.
    pub age_us_max: Option<u64>,
    /// Print JSON.
    pub json: bool,
}

impl Verify {
    /// Makes sense of the flags of [`VERIFY`].
    pub fn from_flags(given: &Given) -> Result<Verify, Usage> {
        let head = match given.text("head") {
            Some(text) => {
                let right = "the 128 lower-case hexadecimal digits of a report's signature";
                Some(unhex(text).ok_or_else(|| wrong("head", text, right))?)
            }
            None => None,
        };
        let age_us_max = match given.text("max-age") {
            Some(_) => Some(given.duration_us("max-age", 1..=limits::ROUND_US_MAX * 3_650)?),
            None => None,
        };
        Ok(Verify {
            files: given.operands().to_vec(),
            roster: given.text("roster").map(str::to_owned),
            head,
            age_us_max,
            json: given.switch("json"),
        })
    }
}
