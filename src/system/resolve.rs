//! DNS lookups, each in a child process (`rsoracle resolve`), since nothing can interrupt the system's resolver when a name
//! server does not answer.
//!
//! Invariant: a lookup returns by its deadline, and its child process ends then. The caller's callback runs every few
//! milliseconds meanwhile. Every attempt to connect asks anew; addresses from before only count while no name server answers.

use crate::system::child;
use crate::system::limits::{RESOLVE_AGAIN_MS_MAX, RESOLVE_MS_MAX, TOML_BYTES_MAX};
use rsoracle_verify::error::Error;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Pause between two checks of the child process.
const NAP: Duration = Duration::from_millis(2);
/// Bytes of the child's answer that are read; a longer one is truncated.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// The variable with options for the system's resolver, resolver(3). If it is set, the operator's options count.
const OPTIONS: &str = "RES_OPTIONS";

/// Prefix of the child's output when the lookup failed; the cause follows.
const FAILED: &str = "failed: ";

/// The child's job: looks up `HOST:PORT`. Returns the text for standard output (one address per line, or the cause of the
/// failure), and the error if there is one.
pub fn answer(name: &str) -> (String, Option<Error>) {
    match name.to_socket_addrs() {
        Ok(addresses) => (
            addresses.map(|address| format!("{address}\n")).collect(),
            None,
        ),
        Err(error) => {
            let text = error.to_string();
            // Drop the standard library's prefix: the system's own message is enough.
            let cause = text.strip_prefix("failed to lookup address information: ");
            let said = format!("{FAILED}{}\n", cause.unwrap_or(&text));
            let error = Error::new(format!("cannot resolve {name}"), error);
            (said, Some(error))
        }
    }
}

/// The addresses of one host, in the order in which they are tried next.
#[derive(Clone, Default)]
pub struct Addresses {
    order: VecDeque<SocketAddr>,
    /// Whether the first of them could be reached when it was tried last.
    pub(crate) works: bool,
}

impl Addresses {
    /// Looks up the host. While no name server answers, its last known addresses count; then this returns why the lookup
    /// failed.
    pub(crate) fn find(
        &mut self,
        host: &str,
        port: u16,
        deadline: Instant,
        look: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Option<String>, Error> {
        let ms_max = match self.works {
            true => RESOLVE_AGAIN_MS_MAX,
            false => RESOLVE_MS_MAX,
        };
        let until = deadline.min(Instant::now() + Duration::from_millis(ms_max));
        match lookup(host, port, until, look) {
            Ok(found) => self.learn(&found),
            // Only a failed lookup is transient. Any other error comes from `look`: the caller wants to stop.
            Err(error) if error.passing && !self.order.is_empty() => {
                self.works = false;
                return Ok(Some(error.cause));
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Number of addresses.
    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    /// The address to try next, once there is one.
    pub(crate) fn next(&self) -> SocketAddr {
        self.order[0]
    }

    /// Notes that this address does not work: it is tried last from now on.
    pub(crate) fn failed(&mut self) {
        self.works = false;
        let first = self.order.pop_front();
        self.order.extend(first);
    }

    /// Takes the result of a lookup: addresses that were known before keep their order, and the others follow, those of both
    /// families in turn (RFC 8305, section 4).
    fn learn(&mut self, found: &[SocketAddr]) {
        let rank = |at: usize| {
            let known = self.order.iter().position(|known| *known == found[at]);
            let alike = |other: &&SocketAddr| other.is_ipv6() == found[at].is_ipv6();
            let turn = found[..at].iter().filter(alike).count();
            (known.unwrap_or(usize::MAX), turn)
        };
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by_key(|at| rank(*at));
        self.order = order.into_iter().map(|at| found[at]).collect();
    }
}

/// Whether the system's resolver would spend all our time on the first of several name servers, unless it is told to hurry:
/// its default is five seconds each. `servers` is the text of resolv.conf(5), whose own limits count.
fn must_hurry(servers: &str) -> bool {
    let lines = |name| {
        let named = move |line: &&str| line.split_whitespace().next() == Some(name);
        servers.lines().filter(named)
    };
    let limited = |line: &str| line.contains("timeout:") || line.contains("attempts:");
    lines("nameserver").count() > 1 && !lines("options").any(limited)
}

/// The addresses of a host. An IP address needs no lookup.
///
/// `look` is called while the lookup runs; its error ends it.
fn lookup(
    host: &str,
    port: u16,
    until: Instant,
    look: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |cause: String| {
        let advice = "check the name, this machine's network and /etc/resolv.conf";
        Error::new(format!("cannot resolve {host}"), cause)
            .advise(advice)
            .passing()
    };
    let mut command = child::this_program()?;
    command.args(["resolve", &format!("{host}:{port}")]);
    let mut servers = String::new();
    let file = File::open("/etc/resolv.conf").map(|file| file.take(TOML_BYTES_MAX as u64));
    let _ = file.and_then(|mut file| file.read_to_string(&mut servers));
    if std::env::var_os(OPTIONS).is_none() && must_hurry(&servers) {
        command.env(OPTIONS, "timeout:1 attempts:1");
    }
    // Not Stdio::null, which opens /dev/null: an empty root has none. Nobody reads these few words.
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut asked = child::Child::spawn(&mut command, "the process that looks up host names")?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = asked.ended() {
            break status;
        }
        look()?;
        if Instant::now() >= until {
            let had_ms = until.saturating_duration_since(began).as_millis();
            return Err(failed(format!(
                "no name server answered within {had_ms} ms"
            )));
        }
        std::thread::sleep(NAP);
    };
    let said = asked.said(ANSWER_BYTES_MAX);
    if !status.success() {
        let cause = said.trim_end().strip_prefix(FAILED);
        let cause = cause.unwrap_or("the lookup process ended without an answer");
        return Err(failed(cause.to_owned()));
    }
    let read: Result<Vec<SocketAddr>, _> = said.trim_end().split('\n').map(str::parse).collect();
    read.map_err(|error| {
        failed(format!(
            "the lookup process answered with no address ({error})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(known: &[&str]) -> Addresses {
        let order = known.iter().map(|text| text.parse().unwrap()).collect();
        let works = false;
        Addresses { order, works }
    }

    fn learnt(known: &[&str], found: &[&str]) -> Vec<String> {
        let mut host = addresses(known);
        let found: Vec<SocketAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
        host.learn(&found);
        host.order.iter().map(SocketAddr::to_string).collect()
    }

    const SIX: [&str; 4] = [
        "[2001:db8::1]:1",
        "[2001:db8::2]:1",
        "[2001:db8::3]:1",
        "[2001:db8::4]:1",
    ];
    const FOUR: [&str; 2] = ["192.0.2.1:1", "192.0.2.2:1"];

    #[test]
    fn the_families_take_turns_from_that_of_the_first_address_on() {
        let both = [&SIX[..], &FOUR[..]].concat();
        let turns = [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2], SIX[3]];
        assert_eq!(learnt(&[], &both), turns);
        let both = [&FOUR[..], &SIX[..1]].concat();
        assert_eq!(learnt(&[], &both), [FOUR[0], SIX[0], FOUR[1]]);
    }

    #[test]
    fn what_was_known_keeps_its_order_and_what_is_gone_is_forgotten() {
        let found = [&SIX[..2], &FOUR[..]].concat();
        let known = [FOUR[1], SIX[3], SIX[0]];
        assert_eq!(learnt(&known, &found), [FOUR[1], SIX[0], FOUR[0], SIX[1]]);
    }

    #[test]
    fn an_attempt_goes_on_where_the_last_one_ended() {
        let mut host = addresses(&SIX);
        for at in [0, 1, 2, 3, 0] {
            assert_eq!(host.next().to_string(), SIX[at]);
            host.failed();
        }
    }

    #[test]
    fn only_a_second_name_server_without_limits_of_the_operators_is_a_reason_to_hurry() {
        let two = "# nameserver\nnameserver 192.0.2.1\nsearch example\n nameserver\t192.0.2.2\n";
        for (more, hurry) in [
            ("", true),
            ("options edns0\n", true),
            ("options rotate timeout:3\n", false),
            ("options attempts:5", false),
            ("#options timeout:3", true),
        ] {
            assert_eq!(must_hurry(&format!("{two}{more}")), hurry, "{more}");
        }
        assert!(!must_hurry("nameserver 192.0.2.1\n") && !must_hurry(""));
    }
}
