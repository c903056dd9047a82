//! One accepted connection until it ends: TLS handshake, requests and answers, streams.
//!
//! Invariant: a step never blocks, and every stage has a deadline, except a stream whose client takes what it is sent. Requests
//! are answered one by one, in their order; while one is answered, the next is not read.

use super::answer::{Answer, Body};
use super::begin::Form;
use super::index::Cursor;
use super::live::{Live, Step};
use super::problem::Problem;
use super::request::{self, Method, Request};
use super::routes::{self, Asked, Reply};
use super::sending::{Left, Pour, Sending};
use super::site::Site;
use super::socket::Socket;
use crate::serve::limits::{
    ANSWER_MS_MAX, HANDSHAKE_MS_MAX, KEEP_ALIVE_MS_MAX, LEAVE_MS_MAX, REQUEST_HEAD_BYTES_MAX,
    REQUEST_MS_MAX, STALL_MS_MAX,
};
use crate::system::channel::Channel;
use crate::system::inbox::waits;
use crate::system::now::wall_us;
use native_tls::{HandshakeError, MidHandshakeTlsStream, TlsAcceptor, TlsStream};
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Most reads per step from a client that leaves, whose data is discarded.
const LEAVING_READS: usize = 16;
/// Most answers per step to a client that sends many requests at once.
const ANSWERS_PER_STEP: usize = 8;

enum Stage {
    /// The TLS handshake.
    Handshake(MidHandshakeTlsStream<TcpStream>),
    /// A request is awaited, or has arrived in part.
    Reading,
    /// The request waits until the journal has changed, or until then.
    Waiting(Box<Request>, Instant),
    /// An answer is being sent. Then the next request is read, or the client is seen off.
    Answering { sending: Sending, keeps: bool },
    /// The upgrade to a websocket is being accepted, which then sends a feed (with its generation) from a place on.
    Upgrading(Sending, (usize, (u64, u64)), Result<Cursor, Problem>),
    /// A stream of events.
    Events(Box<Live>),
    /// A stream over a websocket.
    Socket(Box<Socket>),
    /// All was sent. What still arrives is discarded until the client closes: unread data would make the system send a reset,
    /// which could overtake the answer.
    Leaving,
    /// The connection has ended.
    Over,
}

/// One accepted connection.
pub(super) struct Connection {
    /// Absent during the handshake, and once a websocket has it.
    channel: Option<Channel<TcpStream>>,
    inbox: Vec<u8>,
    stage: Stage,
    /// When the stage began, or the first byte of a request arrived.
    since: Instant,
    /// The version of the journal at the last step.
    version: u64,
    /// Whether it came through the listener for metrics.
    inside: bool,
    /// Whether a request has come.
    asked: bool,
    /// Whether the last answer may have cost much.
    dear: bool,
}

impl Connection {
    /// Takes over an accepted, non-blocking connection.
    pub(super) fn new(
        stream: TcpStream,
        acceptor: Option<&TlsAcceptor>,
        inside: bool,
        now: Instant,
    ) -> Connection {
        let mut connection = Connection {
            channel: None,
            inbox: Vec::new(),
            stage: Stage::Reading,
            since: now,
            version: 0,
            inside,
            asked: false,
            dear: false,
        };
        match acceptor {
            None => connection.channel = Some(Channel::Plain(stream)),
            Some(acceptor) => connection.shake(acceptor.accept(stream)),
        }
        connection
    }

    /// Refuses a connection, with a reason.
    pub(super) fn refuse(&mut self, problem: &Problem, site: &mut Site, now: Instant) {
        *site.counts.refused.entry(problem.name).or_default() += 1;
        self.answer(Answer::problem(problem), None, site, now);
    }

    /// Whether this is a stream of events or over a websocket.
    pub(super) fn stream(&self) -> Option<Form> {
        match self.stage {
            Stage::Events(_) => Some(Form::Events),
            Stage::Socket(_) => Some(Form::Socket),
            _ => None,
        }
    }

    /// Whether a change of the journal matters to it.
    pub(super) fn follows(&self) -> bool {
        self.stream().is_some() || matches!(self.stage, Stage::Waiting(..))
    }

    /// When a request that waits is answered at the latest.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(_, until) => Some(until),
            _ => None,
        }
    }

    /// Since when it has been open without a request, so that it can be closed without harm; None if it has one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = matches!(self.stage, Stage::Reading) && self.inbox.is_empty();
        is_idle.then_some(self.since)
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }

    fn has_lasted(&self, ms: u64, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= Duration::from_millis(ms)
    }

    /// Does everything that is possible without waiting.
    pub(super) fn step(&mut self, site: &mut Site, now: Instant) -> Step {
        let (mut step, mut moved) = (Step::Idle, false);
        for _ in 0..ANSWERS_PER_STEP {
            step = self.turn(site, now);
            if step != Step::Busy {
                break;
            }
            moved = true;
            if std::mem::take(&mut self.dear) {
                break;
            }
        }
        self.version = site.journal.version;
        match step {
            Step::Leave => {
                self.finish();
                self.enter(Stage::Leaving, now);
                Step::Busy
            }
            // More is likely to come soon.
            Step::Idle if moved => Step::Busy,
            step => step,
        }
    }

    fn turn(&mut self, site: &mut Site, now: Instant) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Handshake(mid) => {
                self.shake(mid.handshake());
                let late = self.has_lasted(HANDSHAKE_MS_MAX, now);
                match &self.stage {
                    Stage::Handshake(_) if !late => Step::Idle,
                    Stage::Reading => {
                        self.since = now;
                        Step::Busy
                    }
                    _ => Step::End,
                }
            }
            Stage::Reading => {
                self.stage = Stage::Reading;
                self.read(site, now)
            }
            Stage::Waiting(request, until) => self.wait(request, until, site, now),
            Stage::Answering { sending, keeps } => self.send(sending, keeps, site, now),
            Stage::Upgrading(sending, feed, from) => self.upgrade(sending, feed, from, site, now),
            Stage::Events(mut live) => {
                let Some(channel) = &mut self.channel else {
                    return Step::End;
                };
                // When there is news for all, only that is sent. A client that has left is noticed by it, or later.
                if self.version == site.journal.version && gone(channel) {
                    return Step::End;
                }
                let step = live.step(channel, site, now);
                self.stage = Stage::Events(live);
                step
            }
            Stage::Socket(mut socket) => {
                let step = socket.step(site, now);
                self.stage = Stage::Socket(socket);
                step
            }
            Stage::Leaving => {
                self.stage = Stage::Leaving;
                let left = self.channel.as_mut().is_none_or(gone);
                match left || self.has_lasted(LEAVE_MS_MAX, now) {
                    true => Step::End,
                    false => Step::Idle,
                }
            }
            Stage::Over => Step::End,
        }
    }

    fn shake(&mut self, result: Result<TlsStream<TcpStream>, HandshakeError<TcpStream>>) {
        self.stage = match result {
            Ok(stream) => {
                self.channel = Some(Channel::Tls(Box::new(stream)));
                Stage::Reading
            }
            Err(HandshakeError::WouldBlock(mid)) => Stage::Handshake(mid),
            Err(HandshakeError::Failure(_)) => Stage::Over,
        };
    }

    /// Reads what has arrived, until a request is complete.
    fn read(&mut self, site: &mut Site, now: Instant) -> Step {
        let (mut parsed, mut came) = (request::read(&self.inbox), false);
        if parsed == Ok(None) {
            came = match self.receive(now) {
                Some(came) => came,
                None => return Step::End,
            };
            parsed = request::read(&self.inbox);
        }
        match parsed {
            Ok(Some(request)) => {
                self.inbox.drain(..request.length);
                if self.inbox.is_empty() {
                    self.inbox = Vec::new();
                }
                self.asked = true;
                self.take(request, site, now)
            }
            Ok(None) if self.inbox.is_empty() => {
                let most = if self.asked {
                    KEEP_ALIVE_MS_MAX
                } else {
                    REQUEST_MS_MAX
                };
                match self.has_lasted(most, now) {
                    true => Step::End,
                    false => Step::Idle,
                }
            }
            Ok(None) if self.has_lasted(REQUEST_MS_MAX, now) => {
                self.answer(Answer::problem(&Problem::LATE), None, site, now)
            }
            Ok(None) if came => Step::Blocked,
            Ok(None) => Step::Idle,
            Err(problem) => self.answer(Answer::problem(&problem), None, site, now),
        }
    }

    /// Reads once. Returns whether anything came; None if the client has gone.
    fn receive(&mut self, now: Instant) -> Option<bool> {
        let mut buffer = [0; 4096];
        let room = buffer.len().min(REQUEST_HEAD_BYTES_MAX - self.inbox.len());
        if room == 0 {
            return Some(false);
        }
        match self.channel.as_mut()?.read(&mut buffer[..room]) {
            Ok(0) => None,
            Ok(count) => {
                if self.inbox.is_empty() {
                    self.since = now;
                }
                self.inbox.extend_from_slice(&buffer[..count]);
                Some(true)
            }
            Err(error) => waits(&error).then_some(false),
        }
    }

    fn take(&mut self, request: Request, site: &mut Site, now: Instant) -> Step {
        let asked = Asked {
            now_us: wall_us(),
            patient: true,
            inside: self.inside,
        };
        match routes::answer(&request, site, asked) {
            Ok(Reply::Later(us)) => {
                let until = now + Duration::from_micros(us);
                self.enter(Stage::Waiting(Box::new(request), until), now);
                Step::Idle
            }
            done => self.reply(done, &request, site, now),
        }
    }

    fn wait(
        &mut self,
        request: Box<Request>,
        until: Instant,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        let asked = Asked {
            now_us: wall_us(),
            patient: now < until,
            inside: self.inside,
        };
        let has_news = self.version != site.journal.version;
        if !has_news && asked.patient {
            // The next request may arrive meanwhile.
            let here = self.receive(self.since).is_some();
            self.stage = Stage::Waiting(request, until);
            return if here { Step::Idle } else { Step::End };
        }
        match routes::answer(&request, site, asked) {
            Ok(Reply::Later(_)) => {
                self.stage = Stage::Waiting(request, until);
                Step::Idle
            }
            done => self.reply(done, &request, site, now),
        }
    }

    fn reply(
        &mut self,
        done: Result<Reply, Problem>,
        request: &Request,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        let answer = match done {
            Ok(Reply::Now(answer)) => answer,
            Ok(Reply::Stream((answer, form, feed, from))) if request.method == Method::Get => {
                return self.begin(answer, form, (feed, from), request, site, now);
            }
            Ok(Reply::Stream((answer, ..))) => answer,
            Ok(Reply::Later(_)) => Answer::problem(&Problem::GONE),
            Err(problem) => Answer::problem(&problem),
        };
        self.answer(answer, Some(request), site, now)
    }

    fn answer(
        &mut self,
        answer: Answer,
        request: Option<&Request>,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        *site.counts.answers.entry(answer.status).or_default() += 1;
        self.dear = answer.is_dear;
        let keeps = request.is_some_and(|request| request.keeps) && !answer.is_stream();
        let head = answer.head(request, keeps, wall_us() / 1_000_000);
        let body = answer.body_for(request);
        let sending = Sending::new(&site.journal, head, body, now);
        self.enter(Stage::Answering { sending, keeps }, now);
        Step::Busy
    }

    /// Begins a stream.
    fn begin(
        &mut self,
        answer: Answer,
        form: Form,
        (feed, from): (usize, Result<Cursor, Problem>),
        request: &Request,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        *site.counts.answers.entry(answer.status).or_default() += 1;
        let head = answer.head(Some(request), false, wall_us() / 1_000_000);
        let stage = match (form, from) {
            (Form::Socket, from) => {
                let sending = Sending::new(&site.journal, head, Body::None, now);
                let generation = site.journal.generation(feed);
                Stage::Upgrading(sending, (feed, generation), from)
            }
            (Form::Events, Ok(at)) => {
                let pour = Pour::events(&site.journal, feed, at);
                Stage::Events(Box::new(Live::new(Sending::events(head, pour, now))))
            }
            (Form::Events, Err(problem)) => {
                let sending = Sending::new(&site.journal, head, Body::None, now);
                let mut live = Live::new(sending);
                live.end(&problem, site);
                Stage::Events(Box::new(live))
            }
        };
        self.enter(stage, now);
        Step::Busy
    }

    fn send(&mut self, mut sending: Sending, keeps: bool, site: &mut Site, now: Instant) -> Step {
        let Some(left) = self.push(&mut sending, site, now) else {
            return Step::End;
        };
        match left {
            Left::Nothing if keeps => {
                self.enter(Stage::Reading, now);
                return Step::Busy;
            }
            Left::Nothing => return Step::Leave,
            _ => {}
        }
        let stalls = now - sending.moved_at >= Duration::from_millis(STALL_MS_MAX);
        if stalls || self.has_lasted(ANSWER_MS_MAX, now) {
            return Step::End;
        }
        self.stage = Stage::Answering { sending, keeps };
        match left {
            Left::More => Step::Busy,
            _ => Step::Blocked,
        }
    }

    fn upgrade(
        &mut self,
        mut sending: Sending,
        feed: (usize, (u64, u64)),
        from: Result<Cursor, Problem>,
        site: &mut Site,
        now: Instant,
    ) -> Step {
        let left = self.push(&mut sending, site, now);
        if left == Some(Left::Nothing) {
            let (Some(channel), rest) = (self.channel.take(), std::mem::take(&mut self.inbox))
            else {
                return Step::End;
            };
            let socket = Socket::new(channel, rest, site, feed, from, now);
            self.enter(Stage::Socket(Box::new(socket)), now);
            return Step::Busy;
        }
        if left.is_none() || self.has_lasted(STALL_MS_MAX, now) {
            return Step::End;
        }
        self.stage = Stage::Upgrading(sending, feed, from);
        Step::Blocked
    }

    /// Sends what there is room for; None if the client has gone, or the journal is not what it was.
    fn push(&mut self, sending: &mut Sending, site: &mut Site, now: Instant) -> Option<Left> {
        let Site {
            journal, scratch, ..
        } = site;
        sending
            .send(self.channel.as_mut()?, journal, scratch, now)
            .ok()
    }

    /// Shuts down the sending side. Errors are ignored, since the client may already be gone.
    fn finish(&mut self) {
        if let Some(channel) = &mut self.channel {
            if let Channel::Tls(tls) = channel {
                let _ = tls.shutdown();
            }
            let _ = channel.inner().shutdown(Shutdown::Write);
        }
    }
}

/// Discards what has arrived. Returns whether the client has gone.
fn gone(channel: &mut Channel<TcpStream>) -> bool {
    let mut buffer = [0; 2048];
    for _ in 0..LEAVING_READS {
        match channel.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !waits(&error),
        }
    }
    false
}
