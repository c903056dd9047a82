//! The conversation on one open WebSocket: Binance's WS-API answers requests, or a stream sends prices by itself.
//!
//! Invariant: a step never blocks and does a bounded amount of work. A peer that is dropped is told why only if the real
//! exchange would tell it.

use super::binance::answer::{Scene, reply, too_many};
use super::binance::request::Request;
use super::fault::{API, About, Deed, Plan, refuses};
use super::line::{Act, Heard, OpenSocket, Pings};
use super::stream::Stream;
use super::upgrade::Service;
use super::venue::{Now, Venue};
use crate::system::channel::Channel;
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::ops::ControlFlow;
use tungstenite::Error;

/// Most messages read from one connection in one step, before the others get their turn.
const READS_PER_STEP: usize = 16;
/// Seconds between two ping frames of Binance's WS-API (web-socket-api.md).
const PING_S: u64 = 20;

/// What one step did with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There was nothing to do.
    Idle,
    /// Something was read or written.
    Busy,
    /// The connection has ended.
    End,
}

/// An open WebSocket and what speaks on it.
pub struct Talk {
    socket: OpenSocket,
    speaker: Speaker,
}

enum Speaker {
    Api(Api),
    Stream(Stream),
}

impl Talk {
    /// Starts after the upgrade. `rest` is what the client sent after the head of its request.
    pub fn new(
        stream: Channel<TcpStream>,
        rest: Vec<u8>,
        service: Service,
        venue: &Venue,
        now: Now,
    ) -> Talk {
        let ping_s = match service {
            Service::Api => Some(PING_S),
            Service::Stream(dialect) => dialect.ping_s,
        };
        let pings = ping_s.map(|ping_s| Pings {
            every: venue.period(ping_s),
            // Binance waits 60 s for a pong, on its streams and on the WS-API.
            limit: venue.limit(3 * ping_s),
        });
        let speaker = match service {
            Service::Api => Speaker::Api(Api {
                requests: 0,
                of_parts: vec![0; venue.bases().len()],
                muted: BTreeSet::new(),
            }),
            Service::Stream(dialect) => Speaker::Stream(Stream::new(dialect, venue, now)),
        };
        Talk {
            socket: OpenSocket::new(stream, rest, pings, now),
            speaker,
        }
    }

    /// Does everything that is possible without waiting.
    pub fn step(&mut self, venue: &mut Venue, now: Now) -> Progress {
        match self.try_step(venue, now) {
            Ok(true) => Progress::Busy,
            Ok(false) => Progress::Idle,
            // The peer left, broke the protocol, or has to be dropped.
            Err(_) => Progress::End,
        }
    }

    fn try_step(&mut self, venue: &mut Venue, now: Now) -> Result<bool, Error> {
        if let ControlFlow::Break(busy) = self.socket.tend(now)? {
            return Ok(busy);
        }
        let mut busy = false;
        for _ in 0..READS_PER_STEP {
            match (self.socket.hear(now)?, &mut self.speaker) {
                (Heard::Nothing, _) => break,
                (Heard::Sign, _) => {}
                (Heard::Text(text), Speaker::Api(api)) => {
                    api.answer(&text, &mut self.socket, venue, now)?;
                }
                (Heard::Text(text), Speaker::Stream(stream)) => {
                    stream.hear(&text, &mut self.socket, venue, now)?;
                }
            }
            busy = true;
        }
        if let Speaker::Stream(stream) = &mut self.speaker {
            busy |= stream.speak(&mut self.socket, venue, now)?;
        }
        busy |= self.socket.release(now)?;
        self.socket.flush()?;
        Ok(busy)
    }
}

/// Binance's WS-API, which answers requests.
struct Api {
    /// The number of requests so far.
    requests: u64,
    /// How many of them were for the price of each part.
    of_parts: Vec<u64>,
    /// The parts whose price is not answered any more.
    muted: BTreeSet<usize>,
}

impl Api {
    fn answer(
        &mut self,
        text: &str,
        socket: &mut OpenSocket,
        venue: &mut Venue,
        now: Now,
    ) -> Result<(), Error> {
        self.requests += 1;
        let request = Request::read(text);
        let served = |part: &usize| !refuses(venue.faults(), API, &venue.bases()[*part]);
        let part = request.symbol().and_then(|symbol| venue.part_of(symbol));
        let part = part.filter(served);
        if let Some(part) = part {
            self.of_parts[part] += 1;
        }
        let about = About {
            k: self.requests,
            base: part.map(|part| venue.bases()[part].as_str()),
            k_of_base: part.map_or(0, |part| self.of_parts[part]),
        };
        let plan = Plan::of(venue.faults(), API, about);
        match plan.deed {
            Deed::Mute => self.muted.extend(0..self.of_parts.len()),
            Deed::MuteBase => self.muted.extend(part),
            _ => {}
        }
        if part.is_some_and(|part| self.muted.contains(&part)) {
            return Ok(());
        }
        let scene = Scene {
            price: part.map(|part| venue.trade(part).price.as_str()),
            halted: plan.halted,
            unix_us: now.unix_us,
        };
        let act = match plan.deed {
            Deed::Status { code, retry_us } => {
                let text = too_many(&request, &scene, &plan.lie, code, retry_us);
                match code {
                    418 => Act::LastText(text),
                    _ => Act::Text(text),
                }
            }
            Deed::Reconnect => Act::Notice(format!(
                r#"{{"event":{{"e":"serverShutdown","E":{}}}}}"#,
                now.unix_us / 1000
            )),
            deed => Act::of(deed, || reply(&request, &scene, &plan.lie)),
        };
        socket.carry_out(&plan, act, now)
    }
}
