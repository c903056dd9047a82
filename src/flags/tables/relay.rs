//! The table of the command that publishes reports to NATS.

use super::{flag, list};
use crate::flags::args::{Command, Flag};

pub(super) const CREDS: Flag = flag(
    "creds",
    "FILE",
    "",
    "Credentials for NATS servers: a user's token and seed, as 'nsc' writes them.",
);
pub(super) const NKEY: Flag = flag(
    "nkey",
    "FILE",
    "",
    "A user's seed (SU…) for NATS servers that know its public key.",
);

/// `rsoracle relay`
pub static RELAY: Command = Command {
    name: "relay",
    job: "publishes the reports of a journal to a stream of NATS JetStream, as they come: each one once and in order",
    notes: "A feed's subject is rsoracle.FEED.reports; in FEED, '/' is '-', and what is no letter or digit is '_' and two hexadecimal \
            digits: rsoracle.BTC-USD.reports. Messages are the journal's lines, byte for byte, also changes of the aggregator's key.\n\
            It may be killed at any time, and several relays of one journal may run at once. If what the stream has is not the \
            beginning of the journal's chain, it stops. It holds no key of an oracle. Whoever gets a report verifies it.",
    example: "rsoracle relay --journal journal.jsonl --nats nats://127.0.0.1:4222",
    operands: "",
    groups: &[],
    flags: &[
        flag(
            "journal",
            "FILE",
            "",
            "The journal of 'run --journal' or 'aggregate --journal'. If it does not exist yet, it is waited for. Required.",
        ),
        list(
            "nats",
            "URL",
            "nats://127.0.0.1:4222",
            "A server, nats://HOST:PORT or, for TLS in any case, tls://HOST:PORT; lists have commas. The other servers of its cluster are found through it.",
        ),
        CREDS,
        NKEY,
        flag(
            "ca-file",
            "FILE",
            "",
            "PEM file of root certificates to trust in addition to the system's (or to those of SSL_CERT_FILE and SSL_CERT_DIR). Connect with TLS only.",
        ),
        flag(
            "stream",
            "NAME",
            "RSORACLE",
            "The stream. If there is none, it is made, with the flags below; else it is checked whether it fits.",
        ),
        flag("replicas", "N", "1", "How many servers keep a new stream."),
        flag(
            "max-age",
            "DURATION",
            "",
            "How long a new stream keeps reports. Without it, for ever.",
        ),
        flag(
            "max-bytes",
            "BYTES",
            "",
            "How large a new stream gets. Then its oldest reports go. Without it, as large as the servers allow.",
        ),
        flag(
            "until-eof",
            "",
            "",
            "End when standard input, a socket, is closed, so that the relay ends with its parent.",
        ),
    ],
};
