//! The server: its listeners, the journal, and all connections, in one thread.
//!
//! Invariant: [`Server::sweep`] never blocks. There is no call that waits for several sockets, so each connection is looked at
//! again after a pause that doubles while nothing happens: a stream whose client is silent costs next to nothing.

use super::ServeSettings;
use super::begin::Form;
use super::connection::Connection;
use super::live::Step;
use super::problem::Problem;
use super::site::Site;
use crate::serve::limits::{
    ACCEPTS_PER_SWEEP, JOURNAL_LOOK_MS, SERVE_CONNECTIONS_MAX, SERVE_FILES_SPARE, STREAM_LOOK_MS,
};
use crate::system::acceptor::acceptor;
use crate::system::file::soft_limit;
use crate::system::inbox::waits;
use crate::system::now::wall_us;
use crate::system::stream::say;
use native_tls::TlsAcceptor;
use rsoracle_verify::error::Error;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// First pause before a connection is looked at again, in microseconds. Each further one doubles.
const PAUSE_US_MIN: u64 = 200;
/// Longest such pause where a client may send a request.
const PAUSE_US_MAX: u64 = 50_000;
/// Longest pause between two sweeps: how late a new connection is noticed.
const NAP: Duration = Duration::from_millis(5);
/// Most connections at one time that are being told why they are refused. Further ones are just closed.
const REFUSALS_MAX: usize = 64;

/// Most connections that are looked at to find one that can be closed for another.
const ROOM_ATTEMPTS: usize = 4;

/// Most connections at the listener for metrics.
const INSIDE_MAX: usize = 64;

/// A connection, and when to look at it.
struct Place {
    look_at: Instant,
    pause_us: u64,
    follows: bool,
    stream: Option<Form>,
    /// The address that it counts for; None if it was refused, or came through the listener for metrics.
    from: Option<IpAddr>,
    /// Whether it came through the listener for metrics, and was not refused.
    inside: bool,
    connection: Box<Connection>,
}

/// A listener, and whether it is the one for metrics.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
    inside: bool,
}

/// The server.
pub(super) struct Server {
    doors: Vec<Door>,
    acceptor: Option<TlsAcceptor>,
    site: Site,
    places: Vec<Place>,
    /// How many connections each address has.
    from: HashMap<IpAddr, usize>,
    connections_max: usize,
    per_address_max: usize,
    look_at: Instant,
    version: u64,
    /// Whether a failed accept was already logged.
    accept_told: bool,
}

impl Server {
    /// Starts to listen.
    pub(super) fn open(settings: &ServeSettings) -> Result<Server, Error> {
        let acceptor = match &settings.tls {
            Some((cert, key)) => Some(acceptor(cert, key)?),
            None => None,
        };
        // An aggregator that starts this process has another name for the flag.
        let flag = if settings.until_eof {
            "serve"
        } else {
            "listen"
        };
        let mut doors = vec![Door::open(settings.listen, flag, false)?];
        if let Some(address) = settings.metrics_listen {
            doors.push(Door::open(address, "metrics-listen", true)?);
        }
        let files = soft_limit("Max open files").unwrap_or(1_024);
        let most = files
            .saturating_sub(SERVE_FILES_SPARE + (REFUSALS_MAX + INSIDE_MAX) as u64)
            .max(1);
        Ok(Server {
            acceptor,
            site: Site::new(
                &settings.journal,
                settings.roster.as_deref(),
                settings.metrics_listen.is_some(),
                wall_us(),
            ),
            places: Vec::new(),
            from: HashMap::new(),
            connections_max: SERVE_CONNECTIONS_MAX.min(usize::try_from(most).unwrap_or(usize::MAX)),
            per_address_max: settings.per_address,
            doors,
            look_at: Instant::now(),
            version: 0,
            accept_told: false,
        })
    }

    /// The address of the listener, or of the one for metrics.
    pub(super) fn url(&self, inside: bool) -> Option<String> {
        let door = self.doors.iter().find(|door| door.inside == inside)?;
        let scheme = if self.acceptor.is_some() {
            "https"
        } else {
            "http"
        };
        Some(format!("{scheme}://{}", door.address))
    }

    /// How many connections are possible at one time.
    pub(super) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Looks at the journal, at the listeners, and at every connection whose time has come. Returns how long to sleep.
    pub(super) fn sweep(&mut self) -> Duration {
        let now = Instant::now();
        let mut busy = self.accept(now);
        if now >= self.look_at {
            let more = self.site.journal.look();
            busy |= more;
            let pause_ms = if more { 0 } else { JOURNAL_LOOK_MS };
            self.look_at = now + Duration::from_millis(pause_ms);
        }
        let has_news =
            std::mem::replace(&mut self.version, self.site.journal.version) != self.version;
        let Server {
            places, site, from, ..
        } = self;
        let mut wake_at = self.look_at.min(now + NAP);
        let mut open = [0; 3];
        places.retain_mut(|place| {
            if place.look_at <= now || (has_news && place.follows) {
                let step = place.connection.step(site, now);
                if step == Step::End {
                    leave(from, place.from);
                    return false;
                }
                busy |= step == Step::Busy;
                place.rest(step, now);
            }
            wake_at = wake_at.min(place.look_at);
            open[0] += 1;
            match place.stream {
                Some(Form::Events) => open[1] += 1,
                Some(Form::Socket) => open[2] += 1,
                None => {}
            }
            true
        });
        site.counts.open = open;
        match busy {
            true => Duration::ZERO,
            false => wake_at.saturating_duration_since(Instant::now()),
        }
    }

    /// Accepts waiting clients. Returns whether there were any.
    fn accept(&mut self, now: Instant) -> bool {
        let mut accepted = false;
        for at in 0..self.doors.len() {
            for _ in 0..ACCEPTS_PER_SWEEP {
                let door = &self.doors[at];
                match door.listener.accept() {
                    Ok((stream, address)) => {
                        let inside = door.inside;
                        self.welcome(stream, inside, address.ip(), now);
                        accepted = true;
                    }
                    Err(error) if waits(&error) => break,
                    Err(error) => {
                        // The client may have left while it waited. But when file descriptors run out, this fails every time.
                        if !std::mem::replace(&mut self.accept_told, true) {
                            say(
                                "serve",
                                format!(
                                    "cannot accept a connection: {error}; if too many files are open, raise 'ulimit -n'; further failures are not logged"
                                ),
                            );
                        }
                        break;
                    }
                }
            }
        }
        accepted
    }

    fn welcome(&mut self, stream: TcpStream, inside: bool, ip: IpAddr, now: Instant) {
        let ready = stream.set_nonblocking(true).and(stream.set_nodelay(true));
        if ready.is_err() {
            return;
        }
        let ip = network(ip);
        let of_address = self.from.get(&ip).copied().unwrap_or(0);
        // The listener for metrics is not for strangers, and must answer when they crowd: its connections count by themselves.
        let problem = if inside {
            let open = self.places.iter().filter(|place| place.inside).count();
            (open >= INSIDE_MAX).then_some(Problem::FULL)
        } else if of_address >= self.per_address_max {
            Some(Problem::CROWDED)
        } else if self.from.values().sum::<usize>() >= self.connections_max && !self.make_room(now)
        {
            Some(Problem::FULL)
        } else {
            None
        };
        let is_refused = |place: &&Place| place.from.is_none() && !place.inside;
        let refused = self.places.iter().filter(is_refused);
        if problem.is_some() && (self.acceptor.is_some() || refused.count() >= REFUSALS_MAX) {
            return;
        }
        let mut connection = Connection::new(stream, self.acceptor.as_ref(), inside, now);
        let welcome = problem.is_none();
        let from = match &problem {
            Some(problem) => {
                connection.refuse(problem, &mut self.site, now);
                None
            }
            None if inside => None,
            None => {
                *self.from.entry(ip).or_default() += 1;
                Some(ip)
            }
        };
        self.places.push(Place {
            look_at: now,
            pause_us: PAUSE_US_MIN,
            follows: false,
            stream: None,
            from,
            inside: inside && welcome,
            connection: Box::new(connection),
        });
    }

    /// Closes a connection without a request: of the address that has the most, the one that has been so for longest. Returns
    /// whether there was one.
    fn make_room(&mut self, now: Instant) -> bool {
        for _ in 0..ROOM_ATTEMPTS {
            let idle = |(at, place): (usize, &Place)| {
                let (since, count) = (place.connection.idle_since()?, self.from.get(&place.from?));
                Some((count, Reverse(since), at))
            };
            let Some((.., at)) = self.places.iter().enumerate().filter_map(idle).max() else {
                return false;
            };
            // A request may have arrived since it was looked at.
            let place = &mut self.places[at];
            let step = place.connection.step(&mut self.site, now);
            let is_idle = step == Step::Idle && place.connection.idle_since().is_some();
            if is_idle || step == Step::End {
                let place = self.places.swap_remove(at);
                leave(&mut self.from, place.from);
                return true;
            }
            place.rest(step, now);
        }
        false
    }
}

fn leave(from: &mut HashMap<IpAddr, usize>, ip: Option<IpAddr>) {
    let Some(ip) = ip else { return };
    if let Some(count) = from.get_mut(&ip) {
        *count -= 1;
        if *count == 0 {
            from.remove(&ip);
        }
    }
}

/// What counts as one address: of IPv6 the network, since one client has all of it.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        v4 => v4,
    }
}

impl Place {
    /// Sets when to look at it again.
    fn rest(&mut self, step: Step, now: Instant) {
        self.stream = self.connection.stream();
        self.follows = self.connection.follows() && step != Step::Blocked;
        let longest_us = match self.connection.follows() {
            true => STREAM_LOOK_MS * 1_000,
            false => PAUSE_US_MAX,
        };
        let pause_us = match step {
            Step::Busy => 0,
            // A client that waits for news says nothing itself.
            Step::Idle if self.follows => longest_us,
            _ => self.pause_us.min(longest_us),
        };
        self.pause_us = match step {
            Step::Busy => PAUSE_US_MIN,
            _ => (self.pause_us * 2).min(2 * longest_us),
        };
        let look_at = now + Duration::from_micros(pause_us);
        let until = self.connection.waits_until();
        self.look_at = until.map_or(look_at, |until| look_at.min(until));
    }
}

impl Door {
    fn open(address: SocketAddr, flag: &str, inside: bool) -> Result<Door, Error> {
        let attempt = || format!("cannot listen on {address} (--{flag})");
        let failed = |error: io::Error| {
            Error::new(attempt(), &error).advise(match error.kind() {
                ErrorKind::AddrInUse => {
                    "another process has this port: choose another one, or port 0 for any that is free"
                }
                ErrorKind::PermissionDenied => "choose a port from 1024",
                ErrorKind::AddrNotAvailable => "it takes an address of this machine, such as 127.0.0.1",
                _ => "",
            })
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Door {
            listener,
            address,
            inside,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// A client of this address whose connection the server has.
    fn client(server: &mut Server, last: u8) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let ip = IpAddr::from([192, 0, 2, last]);
        server.welcome(stream, false, ip, Instant::now());
        client
    }

    const REQUEST: &[u8] = b"GET /live HTTP/1.1\r\nHost: here\r\n\r\n";

    /// Lets the server work until a client has an answer, or has lost its connection. Returns whether it has an answer.
    fn is_answered(server: &mut Server, client: &mut TcpStream) -> bool {
        let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"{\"live\":true}\n") {
            server.sweep();
            match client.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => text.extend_from_slice(&buffer[..count]),
                Err(error) if waits(&error) => std::thread::sleep(NAP),
                Err(_) => return false,
            }
        }
        true
    }

    #[test]
    fn room_is_made_by_idle_connections_of_who_has_the_most_and_never_by_one_with_a_request() {
        let settings = ServeSettings {
            journal: "/nonexistent".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics_listen: None,
            tls: None,
            roster: None,
            per_address: 100,
            until_eof: false,
        };
        let mut server = Server::open(&settings).unwrap();
        server.connections_max = 6;
        let mut longest = client(&mut server, 1);
        let mut crowd: Vec<TcpStream> = (0..5).map(|_| client(&mut server, 2)).collect();
        for client in [&mut longest].into_iter().chain(&mut crowd) {
            client.write_all(REQUEST).unwrap();
            assert!(is_answered(&mut server, client));
        }
        // Half a request, and a whole one. The server has read neither.
        crowd[0].write_all(&REQUEST[..9]).unwrap();
        crowd[1].write_all(REQUEST).unwrap();
        let mut last = client(&mut server, 3);
        assert_eq!(server.places.len(), 6);
        last.write_all(REQUEST).unwrap();
        assert!(is_answered(&mut server, &mut last));
        assert!(is_answered(&mut server, &mut crowd[1]), "it had a request");
        crowd[0].write_all(&REQUEST[9..]).unwrap();
        assert!(is_answered(&mut server, &mut crowd[0]), "half a request");
        let others = [&mut longest].into_iter().chain(&mut crowd[2..]);
        let is_open = |client: &mut TcpStream| {
            client.write_all(REQUEST).unwrap();
            is_answered(&mut server, client)
        };
        let open: Vec<bool> = others.map(is_open).collect();
        // The first is alone at its address. Of the others, one was idle for longest.
        assert_eq!(open, [true, false, true, true]);
    }
}
