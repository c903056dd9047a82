//! The table of the command that passes reports on.

use super::flag;
use crate::flags::args::Command;

/// Where it listens, unless another address is named.
pub const SERVE_LISTEN: &str = "127.0.0.1:8090";

/// `rsoracle serve`
pub static SERVE: Command = Command {
    name: "serve",
    job: "passes the reports of a journal on over HTTP, as they come: the newest price, any report, streams, metrics",
    notes: "Reports are at /v1/latest, /v1/reports/NUMBER, /v1/at/MICROSECONDS, /v1/tiles/K, /v1/stream (server-sent events) and \
            /v1/ws (websocket); with several feeds each takes ?feed=NAME. Besides: /v1/feeds, /v1/roster, /v1/proofs, /live, \
            /ready and /metrics. At / is a live page, which checks every report in the browser.\n\
            It holds no key, and the journal may be on another machine's disk. Whoever gets a report verifies it.\n\
            The address goes to standard output, everything else to standard error.",
    example: "rsoracle serve --journal journal.jsonl --roster roster.toml",
    operands: "",
    groups: &[],
    flags: &[
        flag(
            "journal",
            "FILE",
            "",
            "The journal of 'run --journal' or 'aggregate --journal'. If it does not exist yet, it is waited for. Required.",
        ),
        flag(
            "listen",
            "ADDRESS:PORT",
            SERVE_LISTEN,
            "Address to listen on; port 0 takes a free one.",
        ),
        flag(
            "metrics-listen",
            "ADDRESS:PORT",
            "",
            "Address for /metrics, /live and /ready alone. Without it, metrics are at the other address.",
        ),
        flag(
            "cert",
            "FILE",
            "",
            "PEM file of the server's certificate and its issuers: serve https instead of http.",
        ),
        flag(
            "key",
            "FILE",
            "",
            "PEM file of the certificate's private key (PKCS #8).",
        ),
        flag(
            "roster",
            "FILE",
            "",
            "Roster to pass on at /v1/roster. It proves nothing to those who get it there.",
        ),
        flag(
            "per-address",
            "N",
            "256",
            "Most connections of one address (of one network /64 in IPv6). Raise it if a proxy asks for many.",
        ),
        flag(
            "until-eof",
            "",
            "",
            "End when standard input, a socket, is closed, so that the server ends with its parent.",
        ),
    ],
};
