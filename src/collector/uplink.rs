//! A collector's connections to one aggregator: the control channel, and the data channel that its answers go through.
//!
//! Nothing here waits but [`Uplink::connect`], for as long as it is told to. Whatever goes wrong ends these connections only, and
//! they are opened again after growing, jittered pauses.
//! Invariant: a connection gets the records of the running round in order, from the first, however late it was opened, and the
//! answer after them. If it does not take what is sent, at most the rest of one frame is stored.

use super::complaints::Complaints;
use super::settings::AggregatorPlace;
use crate::exchange::session::jittered;
use crate::keys::secret::SecretKey;
use crate::system::inbox::{Inbox, waits};
use crate::system::limits::*;
use crate::system::now::wall_us;
use crate::system::resolve::Addresses;
use crate::wire::*;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::{Observation, Record};
use rsoracle_proof::seal::PublicKey;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What there is to say to every aggregator.
pub(super) struct Present {
    pub(super) key: SecretKey,
    pub(super) slot: u16,
    /// The digest of the newest terms; zeros without any.
    pub(super) digest: [u8; 32],
    /// The first price, once there is one.
    pub(super) price: Option<f64>,
    pub(super) running: Option<Running>,
}

/// The round that is running, or was the last to run.
pub(super) struct Running {
    pub(super) tag: [u8; 8],
    pub(super) start_us: u64,
    /// When the answer is expected.
    pub(super) answer_at: Instant,
    /// When the round ends, and the answer is of no use any more.
    pub(super) end_at: Instant,
    pub(super) records: Vec<Record>,
    pub(super) answer: Option<[u8; Observation::BYTES]>,
}

/// The longest wait for one TCP connection.
const SLICE: Duration = Duration::from_millis(CONNECT_SLICE_MS);

/// Why a control connection was given up.
enum Loss {
    Ended,
    Silent,
    Refused(Reject),
    Frame(Reject),
}

/// The rest of a sentence about the aggregator.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Ended => write!(f, "ended the connection"),
            Loss::Silent => write!(f, "was silent for {} s", SILENCE_MS_MAX / 1_000),
            Loss::Refused(reason) => write!(f, "refused this collector: {reason}"),
            Loss::Frame(reason) => write!(f, "sent a frame that was refused: {reason}"),
        }
    }
}

/// An open control connection.
struct Control {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    opened_at: Instant,
    /// When the last frame came.
    heard_at: Instant,
    /// What the connection has not taken yet, and since when it takes nothing.
    unsent: Vec<u8>,
    sent_at: Instant,
    greeted: bool,
    /// Whether an answer was sent while it stood.
    served: bool,
    /// The digest that the last *ready* named.
    ready: Option<[u8; 32]>,
    /// The round whose records it gets, how many it has got, and whether it has got the answer.
    start_us: u64,
    records: usize,
    answered: bool,
}

impl Control {
    fn new(inbox: Inbox<CONTROL_BYTES_MAX>) -> Control {
        let now = Instant::now();
        Control {
            inbox,
            opened_at: now,
            heard_at: now,
            unsent: Vec::new(),
            sent_at: now,
            greeted: false,
            served: false,
            ready: None,
            start_us: 0,
            records: 0,
            answered: false,
        }
    }

    /// Reads what has come and sends what there is to say.
    fn sweep(&mut self, present: &Present, aggregator: &PublicKey) -> Result<(), Loss> {
        self.inbox.fill();
        self.send(&[]);
        // An aggregator that does not take the answers gets no more of them.
        while self.unsent.is_empty() && self.answer(present, aggregator)? {}
        if self.greeted {
            self.tell(present);
        }
        let silence = Duration::from_millis(SILENCE_MS_MAX);
        if self.inbox.ended() {
            Err(Loss::Ended)
        } else if self.heard_at.elapsed() >= silence || self.sent_at.elapsed() >= silence {
            Err(Loss::Silent)
        } else {
            Ok(())
        }
    }

    /// Sends a frame; what is not taken at once follows later.
    fn send(&mut self, frame: &[u8]) {
        self.unsent.extend_from_slice(frame);
        let count = self.inbox.send_some(&self.unsent);
        self.unsent.drain(..count);
        if self.unsent.is_empty() {
            self.sent_at = Instant::now();
        }
    }

    /// Answers the first frame in the inbox. Returns whether there was one.
    fn answer(&mut self, present: &Present, aggregator: &PublicKey) -> Result<bool, Loss> {
        let Some(head) = self.inbox.peek() else {
            return Ok(false);
        };
        let kind = FrameKind::decode(&head).map_err(Loss::Frame)?;
        if self.inbox.bytes().len() < kind.bytes() {
            return Ok(false);
        }
        match kind {
            FrameKind::Challenge if !self.greeted => {
                let bytes = self.inbox.peek().expect("the frame has come");
                let nonce = Challenge::decode(&bytes).map_err(Loss::Frame)?.nonce;
                let mut hello = Hello {
                    key: *present.key.public().bytes(),
                    clock_us: wall_us(),
                    signature: [0; 64],
                };
                hello.signature = present.key.sign_hello(&nonce, aggregator, &hello);
                self.send(&hello.encode());
                self.greeted = true;
            }
            FrameKind::Ping if self.greeted => {
                let bytes = self.inbox.peek().expect("the frame has come");
                let pong = Pong {
                    echo_us: Ping::decode(&bytes).map_err(Loss::Frame)?.clock_us,
                    clock_us: wall_us(),
                };
                self.send(&pong.encode());
            }
            FrameKind::Refusal => {
                let bytes = self.inbox.peek().expect("the frame has come");
                let refusal = Refusal::decode(&bytes).map_err(Loss::Frame)?;
                return Err(Loss::Refused(refusal.reason));
            }
            _ => return Err(Loss::Frame(Reject::Kind)),
        }
        self.inbox.consume(kind.bytes());
        self.heard_at = Instant::now();
        Ok(true)
    }

    /// Sends *ready* if it is due, then the records that this connection has not got.
    fn tell(&mut self, present: &Present) {
        if let Some(price) = present.price
            && self.ready != Some(present.digest)
            && self.unsent.is_empty()
        {
            let ready = Ready {
                terms_digest: present.digest,
                slot: present.slot,
                price,
            };
            self.send(&ready.encode());
            self.ready = Some(present.digest);
        }
        let Some(running) = &present.running else {
            return;
        };
        if self.start_us != running.start_us {
            (self.start_us, self.records, self.answered) = (running.start_us, 0, false);
        }
        while self.unsent.is_empty() && self.records < running.records.len() {
            let sample = Sample {
                tag: running.tag,
                start_us: running.start_us,
                record: running.records[self.records],
            };
            self.send(&sample.encode());
            self.records += 1;
        }
    }

    /// Whether this connection still has to get the answer of the running round, once there is one.
    fn lacks_answer(&self, running: &Running) -> bool {
        let has = self.start_us == running.start_us && self.answered;
        self.greeted && !has && Instant::now() < running.end_at
    }
}

/// An open data connection, and when it was used last.
struct Data {
    inbox: Inbox<1>,
    used_at: Instant,
    used: bool,
}

impl Data {
    /// Whether it is open: an aggregator never sends anything on it.
    fn stands(&mut self) -> bool {
        self.inbox.fill();
        !self.inbox.ended() && self.inbox.bytes().is_empty()
    }

    /// Whether it was idle for so long that what lies between may have forgotten it.
    fn is_idle(&self) -> bool {
        self.used_at.elapsed() >= Duration::from_millis(DATA_IDLE_MS_MAX)
    }
}

/// The connections to one aggregator, whether they are open or not.
pub(super) struct Uplink {
    place: AggregatorPlace,
    addresses: Addresses,
    control: Option<Control>,
    data: Option<Data>,
    /// Whether the aggregator ended the connection. That is logged only when the next attempt is made, since this process often
    /// ends before.
    ended: bool,
    failures: u32,
    retry_at: Instant,
    pause_ms_max: u64,
    /// The same for the data connection, by its attempts since an answer was last sent; and the start whose answer was tried
    /// at once.
    data_failures: u32,
    data_retry_at: Instant,
    tried_us: u64,
    /// Attempts in a row that the next instant cut short.
    pub(super) cut_short: u32,
    /// Complaints about this aggregator, apart from all others, so that none is crowded out.
    pub(super) complaints: Complaints,
}

impl Uplink {
    /// Not connected yet.
    pub(super) fn new(place: AggregatorPlace, complaints: Complaints) -> Uplink {
        // Without a key of its own, it is this collector's parent, on this host.
        let pause_ms_max = match place.key {
            None => UPLINK_NEAR_MS_MAX,
            Some(_) => RETRY_MS_MAX,
        };
        Uplink {
            place,
            addresses: Addresses::default(),
            control: None,
            data: None,
            ended: false,
            failures: 0,
            retry_at: Instant::now(),
            pause_ms_max,
            data_failures: 0,
            data_retry_at: Instant::now(),
            tried_us: 0,
            cut_short: 0,
            complaints,
        }
    }

    /// Learns the aggregator's key, unless it was configured.
    pub(super) fn learn(&mut self, key: PublicKey) {
        self.place.key.get_or_insert(key);
    }

    /// Whether there is a control connection.
    pub(super) fn is_up(&self) -> bool {
        self.control.is_some()
    }

    /// How much speaks against trying this aggregator before the others: one that does not answer takes all the time.
    pub(super) fn doubt(&self) -> (bool, u32) {
        (!self.is_up(), self.data_failures)
    }

    fn name(&self) -> String {
        let (host, port) = (&self.place.host, self.place.control_port);
        match host.contains(':') {
            true => format!("the aggregator at [{host}]:{port}"),
            false => format!("the aggregator at {host}:{port}"),
        }
    }

    /// Reads what has come and sends what there is to say, without waiting. Returns a complaint, if there is one.
    pub(super) fn sweep(&mut self, present: &Present) -> Option<String> {
        let (control, key) = (self.control.as_mut()?, self.place.key.as_ref()?);
        if let Err(loss) = control.sweep(present, key) {
            return self.lose(loss);
        }
        let running = present.running.as_ref()?;
        let answer = running.answer.filter(|_| {
            let told = control.records == running.records.len() && control.unsent.is_empty();
            told && control.lacks_answer(running)
        })?;
        let data = self.data.as_mut().filter(|data| !data.is_idle())?;
        let frame = DataFrame {
            tag: running.tag,
            start_us: running.start_us,
            observation: answer,
        };
        if data.stands() && data.inbox.send(&frame.encode()) {
            (data.used_at, data.used) = (Instant::now(), true);
            (control.answered, control.served) = (true, true);
            self.data_failures = 0;
            return None;
        }
        self.drop_data()
    }

    /// Gives up the control connection.
    fn lose(&mut self, loss: Loss) -> Option<String> {
        if let Some(mut control) = self.control.take() {
            // An aggregator that is killed again and again is called at once each time, but one that refuses is not.
            let served = control.served && matches!(loss, Loss::Ended);
            if served || control.opened_at.elapsed() >= Duration::from_millis(SILENCE_MS_MAX) {
                self.failures = 0;
            }
            if let Loss::Frame(reason) = loss {
                control.send(&Refusal { reason }.encode());
                control.inbox.end();
            }
        }
        self.data = None;
        self.back_off();
        self.ended = matches!(loss, Loss::Ended);
        (!self.ended).then(|| format!("{} {loss}; connecting again later", self.name()))
    }

    fn back_off(&mut self) {
        self.retry_at = again_at(&mut self.failures, self.pause_ms_max);
    }

    fn drop_data(&mut self) -> Option<String> {
        let used = self.data.take().is_some_and(|data| data.used);
        let text = "ended the data connection, as it does after an answer that it refuses; compare this machine's clock with its own";
        used.then(|| format!("{} {text}", self.name()))
    }

    /// Opens what is missing and due, until `until` at the latest. Returns a complaint, if there is one.
    pub(super) fn connect(&mut self, until: Instant, present: &Present) -> Option<String> {
        if self.place.key.is_none() {
            return None;
        }
        if let Some(control) = &self.control {
            let running = present.running.as_ref()?;
            let left = running.answer_at.saturating_duration_since(Instant::now());
            if left > Duration::from_millis(DATA_AHEAD_MS) || !control.lacks_answer(running) {
                return None;
            }
            return self.connect_data(until, present);
        }
        if Instant::now() < self.retry_at {
            return None;
        }
        if std::mem::take(&mut self.ended) {
            return Some(format!("{} {}; connecting again", self.name(), Loss::Ended));
        }
        let time = until.saturating_duration_since(Instant::now());
        let short = time < SLICE / 2;
        match self.reach(until) {
            Ok(inbox) => {
                let control = self.control.insert(Control::new(inbox));
                self.cut_short = 0;
                // The hello must follow the challenge soon, and this process may turn to something else now.
                let left = until.saturating_duration_since(Instant::now());
                let (least, most) = (GAP_US_MIN, SLICE_MS * 1_000);
                let [least, most] = [least, most].map(Duration::from_micros);
                control.inbox.wait(left.clamp(least, most));
                self.sweep(present)
            }
            Err(error) => {
                // The name was never found before, and the lookup took all the time.
                let was_cut = (short || self.addresses.count() == 0) && Instant::now() >= until;
                self.cut_short += u32::from(was_cut);
                self.back_off();
                let told = !was_cut || self.cut_short > CUT_SHORT_MAX;
                told.then(|| format!("cannot connect to {}: {error}; trying again", self.name()))
            }
        }
    }

    /// Connects to the control port.
    fn reach(&mut self, until: Instant) -> io::Result<Inbox<CONTROL_BYTES_MAX>> {
        let (host, port) = (&self.place.host, self.place.control_port);
        let left = until.saturating_duration_since(Instant::now());
        // An address from before is used if no name server answers in time to connect to it.
        let find_until = match self.addresses.count() {
            0 => until,
            _ => until - left / 2,
        };
        let found = self.addresses.find(host, port, find_until, &mut || Ok(()));
        found.map_err(|error| io::Error::other(error.cause))?;
        let tcp = open(self.addresses.next(), until);
        self.addresses.works = tcp.is_ok();
        if tcp.is_err() {
            self.addresses.failed();
        }
        Inbox::new(tcp?)
    }

    /// Opens the data connection, unless it is open and was used lately. For an answer that is due, one attempt is made without a
    /// pause.
    fn connect_data(&mut self, until: Instant, present: &Present) -> Option<String> {
        let running = present.running.as_ref()?;
        let mut ended = None;
        // Nobody expects an idle one to be open any more.
        self.data = self.data.take().filter(|data| !data.is_idle());
        if let Some(data) = &mut self.data {
            if data.stands() {
                return None;
            }
            ended = self.drop_data();
        }
        let due_us = running.answer.map_or(self.tried_us, |_| running.start_us);
        if Instant::now() < self.data_retry_at && self.tried_us == due_us {
            return ended;
        }
        self.tried_us = due_us;
        self.data_retry_at = again_at(&mut self.data_failures, self.pause_ms_max);
        let ip = self.place.data_ip;
        let ip = ip.unwrap_or_else(|| self.addresses.next().ip());
        let address = SocketAddr::new(ip, self.place.data_port);
        let key = *present.key.public().bytes();
        let opened = open(address, until).and_then(|tcp| {
            let mut inbox = Inbox::new(tcp)?;
            match inbox.send(&Preamble { key }.encode()) {
                true => Ok(inbox),
                false => Err(io::ErrorKind::BrokenPipe.into()),
            }
        });
        match opened {
            Ok(inbox) => {
                self.data = Some(Data {
                    inbox,
                    used_at: Instant::now(),
                    used: false,
                });
                self.sweep(present).or(ended)
            }
            Err(error) => Some(format!(
                "cannot open the data channel to {address}: {error}; trying again"
            )),
        }
    }
}

/// Opens a TCP connection, until `until` at the latest.
fn open(address: SocketAddr, until: Instant) -> io::Result<TcpStream> {
    let left = until.saturating_duration_since(Instant::now());
    let left = left.clamp(Duration::from_millis(1), SLICE);
    TcpStream::connect_timeout(&address, left).map_err(|error| match waits(&error) {
        true => io::Error::new(error.kind(), format!("no answer within {left:.0?}")),
        false => error,
    })
}

/// When to try again after one more attempt.
fn again_at(failures: &mut u32, most_ms: u64) -> Instant {
    let pause_ms = jittered(pause_ms(*failures, most_ms));
    *failures = failures.saturating_add(1);
    Instant::now() + Duration::from_millis(pause_ms)
}

/// The pause after so many failures in a row, in milliseconds and without jitter.
fn pause_ms(failures: u32, most_ms: u64) -> u64 {
    (RECONNECT_MS << failures.min(16)).min(most_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_bound() {
        let pauses = [0, 1, 2, 3, 8, 9, 1_000_000].map(|failures| pause_ms(failures, 16_000));
        assert_eq!(pauses, [50, 100, 200, 400, 12_800, 16_000, 16_000]);
    }
}
