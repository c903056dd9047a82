//! The tables of the commands that neither make prices nor sample.

use super::{CA_FILE, ENDPOINT, PROXY, SAMPLE_RULE, flag, list};
use crate::flags::args::Command;

/// `rsoracle verify`
pub static VERIFY: Command = Command {
    name: "verify",
    job: "verifies reports offline: their form, signatures and prices, and who signed them",
    notes: "A FILE holds what 'run --journal' keeps or a single 'run --json' prints; with --published, what 'run --every … --json' \
            prints. '-' is standard input.\n\
            If the files are of several aggregators, the reports of each round are pooled: it says where they differ and why, and \
            the price that all answers give. A collector that gave them different answers lied. The proof is printed, and the \
            exit code is 1.\n\
            Exit codes, and which one counts for several files: 1 invalid, 4 a file cannot be read, 3 no report in it yet, 6 last \
            price older than --max-age, 5 consistent, but signers unknown, 0 valid and signed by the roster's collectors. 2 usage.",
    example: "rsoracle verify journal.jsonl --roster roster.toml --max-age 60s",
    operands: "FILE…",
    groups: &[],
    flags: &[
        list(
            "roster",
            "FILE",
            "",
            "The roster that you trust: feed, rules, schedule, keys and sources. 'run --write-roster' writes one. Each further roster must be endorsed by the collectors of the one before it ('rsoracle roster change'), and counts from its time on.",
        ),
        list(
            "head",
            "SIGNATURE",
            "",
            "Signature of a report that you know to be the newest of its feed, in 128 hexadecimal digits: detects a truncated journal.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "Refuse a file in which the last price of any feed is older than this. (The --max-age of 'run' is another: it limits the age of an exchange's price.)",
        ),
        flag(
            "published",
            "",
            "",
            "The files hold published reports only, as 'run --every … --json' prints them: numbers may skip, and no published report is missing.",
        ),
        flag(
            "json",
            "",
            "",
            "Print one JSON object per file, and one about the pool, instead of sentences.",
        ),
    ],
};

/// `rsoracle history`
pub static HISTORY: Command = Command {
    name: "history",
    job: "shows the last rounds of journals as a table and a small graph of prices",
    notes: "A FILE is a journal that 'run --journal' keeps; '-' is standard input. It is read from its end, as far as the \
            rounds to show need, of every feed that is found there or named in FILE.newest. Every line read is verified as \
            'rsoracle verify' does it without a roster. A '!' marks what is unusual: rounds without a price, missing reports, and a round that began more than 1.5 times the usual period after \
            the previous one. Each feed has a table of its own.\n\
            The reports of several files are pooled: each round has the price that all their answers give, and a '!' if the files \
            differ, with the reason.\n\
            Exit codes: 0 all lines read are valid, 1 some are not, the reports of a pooled file are not in the order of their starts, \
            or a collector gave different answers, 2 usage, 4 unreadable.",
    example: "rsoracle history journal.jsonl --last 50",
    operands: "FILE…",
    groups: &[],
    flags: &[
        flag(
            "feed",
            "NAMES",
            "",
            "Show these feeds only, as in BTC/USD,ETH/USD.",
        ),
        flag(
            "last",
            "N",
            "20",
            "Number of rounds of each feed to show, counted from the end.",
        ),
        flag(
            "json",
            "",
            "",
            "Print one line of JSON per round instead of the table.",
        ),
    ],
};

/// `rsoracle journal`
pub static JOURNAL_COMMAND: Command = Command {
    name: "journal",
    job: "closes a journal's segment, so that the chain goes on in a new file",
    notes: "What it does:\n\
            \x20 rotate FILE…    the reports in FILE become the segment FILE.000001, or the next number, and FILE is empty\n\
            If an aggregator is writing the journal, it is asked to do so between two rounds, within 60 s; else it is done at once. \
            Closed segments are never written to again. The other commands read FILE with its segments as one journal.\n\
            Exit codes: 0 closed, or there was nothing to close, 1 not, 2 usage.",
    example: "rsoracle journal rotate journal.jsonl",
    operands: "rotate FILE…",
    groups: &[],
    flags: &[],
};

/// `rsoracle doctor`
pub static DOCTOR: Command = Command {
    name: "doctor",
    job: "checks whether sources can be used from here, and says what to do about those that cannot",
    notes: "For each source in turn it connects, reads a first price and its age, measures the round trip, compares this machine's \
            clock with the exchange's, and reads the issuer and the expiry of the certificate. A source may be written without its \
            symbol, as in 'kraken'. Without any SOURCE, one of every kind is checked. For an 'embedded:' source without --endpoint it \
            starts the embedded exchange itself.\n\
            Exit codes: 0 all can be used, 1 some cannot, 2 usage.",
    example: "rsoracle doctor kraken binance-stream:BTCUSDT --feed BTC/USD",
    operands: "[SOURCE…]",
    groups: &[],
    flags: &[
        flag(
            "feed",
            "NAMES",
            "BTC/USD",
            "The feeds whose markets are meant by a source without a symbol, as in BTC/USD,ETH/USD.",
        ),
        CA_FILE,
        PROXY,
        ENDPOINT,
        flag(
            "json",
            "",
            "",
            "Print one JSON object per source instead of sentences, one per line.",
        ),
    ],
};

/// `rsoracle keygen`
pub static KEYGEN: Command = Command {
    name: "keygen",
    job: "creates a secret key in a new file that only you can read, and prints its public key",
    notes: "It never overwrites a file. Whoever has the file can sign in its owner's name: keep it on the host that signs, and \
            give others only the public key, in a roster file.",
    example: "rsoracle keygen aggregator.key",
    operands: "FILE",
    groups: &[],
    flags: &[],
};

/// `rsoracle keys`
pub static KEYS: Command = Command {
    name: "keys",
    job: "prints the public keys of secret key files, one per line; of several files, with their names",
    notes: "",
    example: "rsoracle keys keys/slot-0.key keys/slot-1.key",
    operands: "FILE…",
    groups: &[],
    flags: &[],
};

/// `rsoracle resolve`
pub static RESOLVE: Command = Command {
    name: "resolve",
    job: "looks up the addresses of a host; collectors run it as a child, since a DNS lookup cannot be interrupted",
    notes: "",
    example: "rsoracle resolve ws-api.binance.com:443",
    operands: "HOST:PORT",
    groups: &[],
    flags: &[],
};

/// `rsoracle manual`
pub static MANUAL: Command = Command {
    name: "manual",
    job: "writes manual pages and shell completions (bash, zsh, fish) into a directory laid out like /usr/share",
    notes: "Existing files are replaced.",
    example: "rsoracle manual /usr/local/share",
    operands: "DIR",
    groups: &[],
    flags: &[],
};

/// `rsoracle roster`
pub static ROSTER: Command = Command {
    name: "roster",
    job: "makes a roster of several operators' collectors; checks and shows rosters",
    notes: "What it does:\n\
            \x20 new FEED…       print a draft: the terms of these feeds, without slots\n\
            \x20 seat            sign a seat with a collector's key, and print it\n\
            \x20 assemble DRAFT SEAT…\n\
            \x20                 print the roster of a draft and of the seats in these files, in this order; a signed seat cannot be changed\n\
            \x20 change OLD NEW [ENDORSEMENT…]\n\
            \x20                 print the roster NEW with endorsements of the change from OLD to it, and from when on it counts\n\
            \x20 endorse OLD NEW\n\
            \x20                 endorse the change with a collector's key, and print that; a key endorses one change of a roster\n\
            \x20 check FILE      check the roster: its seats' signatures, its schedule, its sources, and what it survives\n\
            \x20 show FILE       show the roster: its digests, its terms in words, its slots as a table\n\
            Everybody who takes part should compare the roster digest with the others.\n\
            Exit codes: 0 done or sound, 1 not, 2 usage.",
    example: "rsoracle roster check roster.toml --key slot-4.key",
    operands: "new|seat|assemble|change|endorse|check|show [FEED…|FILE…]",
    groups: &[
        ("new and assemble", "number previous"),
        (
            "new",
            "rule sample-rule min-exchanges max-age max-spread samples interval every first-start end",
        ),
        ("seat", "source"),
        ("change", "from"),
        ("seat, endorse and check", "key"),
        ("endorse", "state"),
        ("check", "after accept-quote"),
        ("all but check and show", "out"),
    ],
    flags: &[
        flag(
            "number",
            "N",
            "",
            "The roster's number. The default is 1, or the draft's.",
        ),
        flag(
            "previous",
            "DIGEST",
            "",
            "Digest of the roster before it, in 64 hexadecimal digits.",
        ),
        flag(
            "rule",
            "RULE",
            "trimmed-mean",
            "How the collectors' prices are combined: trimmed-mean, median or mean.",
        ),
        SAMPLE_RULE,
        flag(
            "min-exchanges",
            "N",
            "1",
            "A price needs collectors' prices from at least this many exchanges.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "Greatest age of a sample, where the exchange gives a time. The default is each exchange's own limit.",
        ),
        flag(
            "max-spread",
            "PERCENT",
            "",
            "A price is withheld if the prices used for it differ by more than this.",
        ),
        flag("samples", "N", "10", "Samples per round and collector."),
        flag(
            "interval",
            "DURATION",
            "1s",
            "Time from one sample to the next.",
        ),
        flag(
            "every",
            "DURATION",
            "10s",
            "Period: time from one round's start to the next; 0s for a single round.",
        ),
        flag(
            "first-start",
            "TIME",
            "",
            "Start of the first round, such as 2026-12-01T00:00:00Z. The default is the next full minute.",
        ),
        flag(
            "end",
            "TIME",
            "",
            "No round starts at this time or later. The default is no end.",
        ),
        list(
            "source",
            "EXCHANGE:SYMBOL",
            "",
            "What the collector watches, such as kraken:BTC/USD. Of several feeds: a source for each, in the order of the draft, 'none' for a feed that it does not price, and all of one exchange ('kraken:BTC/USD,none,kraken:SOL/USD').",
        ),
        flag(
            "key",
            "FILE",
            "",
            "Secret key of a collector, made by 'rsoracle keygen'. seat and endorse sign with it; check says which slot has it.",
        ),
        flag(
            "from",
            "TIME",
            "",
            "From when on the new roster counts, such as 2026-12-01T00:00:00Z: for rounds that start then or later.",
        ),
        flag(
            "state",
            "DIR",
            "",
            "Directory of the file that keeps which change the key endorsed. The default is that of the key.",
        ),
        flag(
            "after",
            "OLD",
            "",
            "Check also that the roster follows this one: that enough collectors endorsed the change.",
        ),
        list(
            "accept-quote",
            "CURRENCY",
            "",
            "Accept sources in this currency as if it were the feed's. For a feed in USD, USDC and USDT are accepted.",
        ),
        flag(
            "out",
            "FILE",
            "",
            "Write to this file instead of standard output; with assemble, change and endorse, print what it says.",
        ),
    ],
};

/// `rsoracle exchange`
pub static EXCHANGE: Command = Command {
    name: "exchange",
    job: "runs the embedded exchange: it imitates every supported exchange with recorded trades",
    notes: "Binance's WS-API is at /ws-api/v3, the streams at /binance-stream, /coinbase, /kraken, /bitstamp, /bitfinex, \
            /gemini, /crypto.com, /okx and /bybit. The streams offer the tape's base in USD, USDC and USDT. The built-in tape \
            also plays ETH, SOL, XRP and 21 others: their prices are bitcoin's times a fixed factor, each in another phase.\n\
            Faults: [DIALECT/][BASE/]NAME[:VALUE][@K|@K..]\n\
            DIALECT/ limits a fault to one exchange, as in kraken/drop, and BASE/ to one base, as in ETH/mute. @K limits it to the \
            K-th request of a connection (in a stream: the K-th price; with a base: of that base), and @K.. to the K-th and all \
            later ones. Without any of these it applies to all.\n\
            \x20 drop            close the connection instead of answering\n\
            \x20 hang            send nothing more on this connection, not even pongs\n\
            \x20 mute            send no more prices on this connection, but everything else\n\
            \x20 refuse          refuse the symbol as unknown\n\
            \x20 halt            serve the symbol as one that is not traded at present; in streams: silently\n\
            \x20 garbage         answer with text that is not JSON\n\
            \x20 wrong-id        answer with another id; not in streams\n\
            \x20 wrong-symbol    answer with another symbol\n\
            \x20 price:TEXT      answer with this text as the price (NaN, 0, -1, 1e400, nothing, abc)\n\
            \x20 scale:FACTOR    answer with the price times this factor: a lie\n\
            \x20 quote:BID:ASK   send these texts as best bid and best ask\n\
            \x20 stale:DURATION  streams: send timestamps that are this old\n\
            \x20 old-first:DURATION\n\
            \x20                 streams: the same for the first price only, as in an old snapshot\n\
            \x20 large           answer with a message of 20 MB\n\
            \x20 reconnect       announce the end of the connection if this exchange does so, and end it a second later\n\
            \x20 maintenance     streams: announce maintenance and send no prices (kraken, bitfinex), or close the connection\n\
            \x20 status:429:DURATION, status:418:DURATION\n\
            \x20                 answer with this error, and a 'retryAfter' that far in the future; not in streams\n\
            \x20 upgrade:CODE, upgrade:CODE:SECONDS\n\
            \x20                 refuse the WebSocket upgrade with this HTTP status (451, 403, 418, 429, 503) and this 'Retry-After'\n\
            \x20 ping            send a ping with a payload before answering, and answer only after the pong\n\
            \x20 slow:DURATION   answer this much later",
    example: "rsoracle exchange --listen 127.0.0.1:9443 --fault garbage@3",
    operands: "",
    groups: &[],
    flags: &[
        flag(
            "listen",
            "ADDRESS:PORT",
            "127.0.0.1:9443",
            "Address to listen on; port 0 takes a free one.",
        ),
        flag(
            "tape",
            "FILE",
            "",
            "Replay this price tape instead of the built-in one.",
        ),
        flag(
            "speed",
            "FACTOR",
            "1",
            "Speed of the replay; 2 is twice as fast as recorded.",
        ),
        flag(
            "keep-alive",
            "DURATION",
            "",
            "Send heartbeats and pings this often, and close idle connections after three times as long. The default is each exchange's own period.",
        ),
        flag(
            "rate",
            "N",
            "",
            "Streams send the tape's price N times a second, instead of only when it changes.",
        ),
        list("fault", "FAULT", "", "Misbehave: one of the faults above."),
        flag(
            "cert",
            "FILE",
            "",
            "Certificate chain (PEM); enables TLS. Needs --key.",
        ),
        flag(
            "key",
            "FILE",
            "",
            "Private key of the certificate (PEM, PKCS #8).",
        ),
        flag(
            "clock-offset",
            "DURATION",
            "0ms",
            "How far the exchange's clock is ahead of this machine's; -3s is behind.",
        ),
        flag(
            "poll",
            "DURATION",
            "2ms",
            "Longest pause between two checks of the connections; 0ms checks without pause.",
        ),
        flag(
            "until-eof",
            "",
            "",
            "End when standard input, a socket, is closed, so that the exchange ends with its parent.",
        ),
    ],
};
