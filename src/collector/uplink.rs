//! A collector's connections to one aggregator: the control channel, and the data channel that its answers go through.
//!
//! Nothing here waits but [`Uplink::connect`], for as long as it is told to. Whatever goes wrong ends these connections only, and
//! they are opened again after growing, jittered pauses.
//! Invariant: an answer is sent after the samples that it was signed over. Once there is a data connection, it is closed only
//! when another one is open, or when it has ended or was idle for long. An answer of which it has taken a part then goes through
//! the next one.

use super::complaints::Complaints;
use super::control::{Control, Loss};
use super::present::Present;
use super::rest::Rest;
use super::settings::AggregatorPlace;
use crate::collector::limits::*;
use crate::exchange::session::jittered;
use crate::system::endpoint::bracketed;
use crate::system::inbox::{Inbox, waits};
use crate::system::resolve::Addresses;
use crate::wire::{CONTROL_BYTES_MAX, Preamble};
use rsoracle_proof::seal::PublicKey;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest wait for one TCP connection.
const SLICE: Duration = Duration::from_millis(CONNECT_SLICE_MS);

/// An open data connection, and when it was used last.
struct Data {
    inbox: Inbox<1>,
    unsent: Rest,
    opened_at: Instant,
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

    /// Whether it is in use, but so old that nobody knows whether what is sent on it still arrives.
    fn is_old(&self) -> bool {
        let old = self.opened_at.elapsed() >= Duration::from_millis(DATA_AGE_MS_MAX);
        old && !self.is_idle()
    }
}

/// The connections to one aggregator, whether they are open or not.
pub(super) struct Uplink {
    place: AggregatorPlace,
    addresses: Addresses,
    control: Option<Control>,
    /// Whether an answer was sent while that stood.
    served: bool,
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
    /// What is logged when the aggregator is first connected to; empty if it was, or if it is this collector's parent.
    news: String,
}

impl Uplink {
    /// Not connected yet. `about` says who this collector is.
    pub(super) fn new(place: AggregatorPlace, about: &str, complaints: Complaints) -> Uplink {
        // Without a key of its own, it is this collector's parent, on this host.
        let pause_ms_max = match place.key {
            None => UPLINK_NEAR_MS_MAX,
            Some(_) => UPLINK_FAR_MS_MAX,
        };
        let by_hand = place.key.is_some();
        let mut uplink = Uplink {
            place,
            addresses: Addresses::default(),
            control: None,
            served: false,
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
            news: String::new(),
        };
        if by_hand {
            uplink.news = format!("connected to {} for {about}", uplink.name());
        }
        uplink
    }

    /// Tries again without a pause, since something has changed.
    pub(super) fn hurry(&mut self) {
        (self.failures, self.data_failures) = (0, 0);
        (self.retry_at, self.data_retry_at) = (Instant::now(), Instant::now());
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
        let (host, port) = (bracketed(&self.place.host), self.place.control_port);
        format!("the aggregator at {host}:{port}")
    }

    /// Reads what has come and sends what there is to say, without waiting. Returns a complaint, if there is one.
    pub(super) fn sweep(&mut self, present: &Present) -> Option<String> {
        let (control, key) = (self.control.as_mut()?, self.place.key.as_ref()?);
        if let Err(loss) = control.sweep(present, key) {
            return self.lose(loss);
        }
        if control.greeted && !self.news.is_empty() {
            self.complaints.tell(&std::mem::take(&mut self.news));
        }
        if let Some(data) = self.data.as_mut().filter(|data| !data.unsent.is_empty()) {
            if !data.stands() {
                return self.drop_data();
            }
            data.unsent.flush(&mut data.inbox);
        }
        let running = present.running.as_ref()?;
        let sends = control.is_told(running) && control.lacks_answers(running);
        let answers = running.answers.get(control.answers..)?;
        if !sends || answers.is_empty() {
            return None;
        }
        let data = self.data.as_mut().filter(|data| !data.is_idle())?;
        if !data.stands() {
            return self.drop_data();
        }
        if data.unsent.is_empty() {
            control.answers += data.unsent.send(&mut data.inbox, answers);
            (data.used_at, data.used) = (Instant::now(), true);
            self.served = true;
            if !data.is_old() {
                self.data_failures = 0;
            }
        }
        None
    }

    /// Gives up the control connection.
    fn lose(&mut self, loss: Loss) -> Option<String> {
        if let Some(control) = self.control.take() {
            // An aggregator that is killed again and again is called at once each time, but one that refuses is not.
            let served = self.served && matches!(loss, Loss::Ended);
            if served || control.opened_at.elapsed() >= Duration::from_millis(SILENCE_MS_MAX) {
                self.failures = 0;
            }
            control.end(&loss);
        }
        self.data = None;
        self.back_off();
        self.ended = matches!(loss, Loss::Ended);
        (!self.ended).then(|| format!("{} {loss}; connecting again later", self.name()))
    }

    fn back_off(&mut self) {
        self.retry_at = again_at(&mut self.failures, self.pause_ms_max);
    }

    /// Takes the data connection away. The answer that it has taken in part will be sent again.
    fn take_data(&mut self) -> Option<Data> {
        let data = self.data.take()?;
        if let Some(control) = self.control.as_mut().filter(|_| !data.unsent.is_empty()) {
            // There are none if a round has begun since: nothing is sent behind a rest.
            control.answers = control.answers.saturating_sub(1);
        }
        Some(data)
    }

    fn drop_data(&mut self) -> Option<String> {
        let used = self.take_data().is_some_and(|data| data.used);
        let text = "ended the data connection, as it does after an answer that it refuses; compare this machine's clock with its own";
        used.then(|| format!("{} {text}", self.name()))
    }

    /// Whether it has answers to send, and no data connection for them.
    pub(super) fn lacks_data(&self, present: &Present) -> bool {
        let (Some(control), Some(running)) = (&self.control, &present.running) else {
            return false;
        };
        let some = running.answers.len() > control.answers && control.lacks_answers(running);
        some && self.data.as_ref().is_none_or(Data::is_idle)
    }

    /// Opens what is missing and due, until `until` at the latest. Returns a complaint, if there is one.
    pub(super) fn connect(&mut self, until: Instant, present: &Present) -> Option<String> {
        if self.place.key.is_none() {
            return None;
        }
        if let Some(control) = &self.control {
            let running = present.running.as_ref()?;
            let left = running.answer_at.saturating_duration_since(Instant::now());
            let old = self.data.as_ref().is_some_and(Data::is_old);
            let due = control.lacks_answers(running) || old;
            if left > Duration::from_millis(DATA_AHEAD_MS) || !due {
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
                (self.cut_short, self.served) = (0, false);
                // The hello must follow the challenge soon, and this process may turn to something else now.
                let left = until.saturating_duration_since(Instant::now());
                let (least, most) = (GAP_US_MIN, SLICE_MS * 1_000);
                let [least, most] = [least, most].map(Duration::from_micros);
                control.wait(left.clamp(least, most));
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

    /// Opens the data connection, unless it is open, was used lately and is not old. For answers that are due, one attempt is made
    /// without a pause.
    fn connect_data(&mut self, until: Instant, present: &Present) -> Option<String> {
        let running = present.running.as_ref()?;
        let mut ended = None;
        // Nobody expects an idle one to be open any more.
        if self.data.as_ref().is_some_and(Data::is_idle) {
            self.take_data();
        }
        if let Some(data) = &mut self.data {
            if !data.stands() {
                ended = self.drop_data();
            } else if !data.is_old() {
                return None;
            }
        }
        let due_us = match running.answers.is_empty() {
            true => self.tried_us,
            false => running.start_us,
        };
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
                let now = Instant::now();
                self.take_data();
                self.data = Some(Data {
                    inbox,
                    unsent: Rest::default(),
                    opened_at: now,
                    used_at: now,
                    used: false,
                });
                self.sweep(present).or(ended)
            }
            // The old one goes on.
            Err(_) if self.data.is_some() => None,
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
    use crate::collector::rosters::{Duty, Task};
    use crate::keys::secret::SecretKey;
    use crate::wire::{Challenge, DataFrame, Hello};
    use rsoracle_proof::aggregate::Rule;
    use rsoracle_proof::record::{Answer, Observation};
    use rsoracle_proof::schedule::Schedule;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn pauses_grow_up_to_their_bound() {
        let pauses = [0, 1, 2, 3, 7, 8, 9, 1_000_000];
        let pauses = pauses.map(|failures| pause_ms(failures, UPLINK_FAR_MS_MAX));
        assert_eq!(pauses, [50, 100, 200, 400, 6_400, 7_500, 7_500, 7_500]);
    }

    fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// An aggregator and the collector's connections to it, of which the one for data is not open yet.
    fn connected(present: &Present) -> (TcpStream, TcpListener, Uplink) {
        let ((control, control_port), (data, data_port)) = (listen(), listen());
        let place = AggregatorPlace {
            host: "127.0.0.1".to_owned(),
            control_port,
            data_ip: None,
            data_port,
            key: Some(SecretKey::from_seed(&mut [9; 32]).public()),
        };
        let mut uplink = Uplink::new(place, "", Complaints::new("collector"));
        // It waits a little for the challenge.
        assert_eq!(uplink.connect(soon(), present), None);
        let mut control = control.accept().unwrap().0;
        control
            .write_all(&Challenge { nonce: [1; 32] }.encode())
            .unwrap();
        let mut hello = [0; Hello::BYTES];
        control.set_nonblocking(true).unwrap();
        while control.read(&mut hello).is_err() {
            assert_eq!(uplink.sweep(present), None);
        }
        (control, data, uplink)
    }

    fn soon() -> Instant {
        Instant::now() + SLICE
    }

    fn duties(count: u8) -> Task {
        let duty = |seed| Duty {
            digest: [seed; 32],
            seat: 0,
            symbol: 0,
            sample_rule: Rule::Mean,
            age_us_max: None,
            about: String::new(),
        };
        Task {
            schedule: Schedule {
                first_start_us: 0,
                period_us: 0,
                end_us: None,
                samples: 1,
                interval_us: 3_600_000_000,
            },
            duties: (0..count).map(duty).collect(),
        }
    }

    /// Begins a round, in which the data connection is opened if it is due, and sends an answer for each feed.
    fn round(uplink: &mut Uplink, present: &mut Present, task: &Task, start_us: u64) {
        present.begin(task, start_us);
        // Whatever the clock says about this start.
        present.running.as_mut().unwrap().end_at = Instant::now() + 60 * SLICE;
        uplink.data_retry_at = Instant::now();
        assert_eq!(uplink.sweep(present), None);
        assert_eq!(uplink.connect(soon(), present), None);
        for duty in &task.duties {
            present.answer(duty, &[], Answer::Price(1.0), start_us);
        }
        assert_eq!(uplink.sweep(present), None);
    }

    fn frames<const N: usize>(data: &mut TcpStream) -> [u64; N] {
        let mut frames = [[0; DataFrame::BYTES]; N];
        data.read_exact(frames.as_flattened_mut()).unwrap();
        frames.map(|frame| DataFrame::decode(&frame).start_us)
    }

    fn age(uplink: &mut Uplink) {
        let age = Duration::from_millis(DATA_AGE_MS_MAX);
        let data = uplink.data.as_mut().unwrap();
        data.opened_at = Instant::now().checked_sub(age).expect("a minute ago");
    }

    #[test]
    fn an_old_data_connection_serves_until_there_is_a_new_one_and_no_answer_is_lost() {
        let (key, task) = (SecretKey::from_seed(&mut [1; 32]), duties(2));
        let mut present = Present::new(key, 0, None);
        let (_control, listener, mut uplink) = connected(&present);
        round(&mut uplink, &mut present, &task, 1);
        let accept = |listener: &TcpListener| {
            listener.set_nonblocking(true).unwrap();
            let mut data = listener.accept().expect("a new one").0;
            data.set_nonblocking(false).unwrap();
            data.set_read_timeout(Some(10 * SLICE)).unwrap();
            data.read_exact(&mut [0; Preamble::BYTES]).unwrap();
            data
        };
        let mut first = accept(&listener);
        round(&mut uplink, &mut present, &task, 2);
        assert_eq!(frames(&mut first), [1, 1, 2, 2]);
        age(&mut uplink);
        round(&mut uplink, &mut present, &task, 3);
        let mut second = accept(&listener);
        assert_eq!(frames(&mut second), [3, 3]);
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "it was closed");
        // Nobody listens any more, but the old one still stands.
        drop(listener);
        age(&mut uplink);
        round(&mut uplink, &mut present, &task, 4);
        round(&mut uplink, &mut present, &task, 5);
        assert_eq!(frames(&mut second), [4, 4, 5, 5]);
    }

    /// More answers than two sockets hold, each with its number in the place of its start.
    fn flood(present: &mut Present) -> usize {
        const COUNT: usize = 300_000;
        present.begin(&duties(1), 0);
        let running = present.running.as_mut().unwrap();
        running.end_at = Instant::now() + 600 * SLICE;
        running.answers_due = COUNT;
        let frame = |number| DataFrame {
            tag: [7; 8],
            start_us: number as u64,
            observation: [0; Observation::BYTES],
        };
        running.answers = (0..COUNT).map(|number| frame(number).encode()).collect();
        COUNT
    }

    /// Reads what has come.
    fn read(data: &mut TcpStream, bytes: &mut Vec<u8>) {
        let mut piece = [0; 65_536];
        if let Ok(count) = data.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
        }
    }

    #[test]
    fn answers_that_a_connection_takes_in_part_get_through_and_a_cut_one_goes_through_the_next() {
        let mut present = Present::new(SecretKey::from_seed(&mut [1; 32]), 0, None);
        let (_control, listener, mut uplink) = connected(&present);
        let count = flood(&mut present);
        let open = |uplink: &mut Uplink| {
            uplink.data_retry_at = Instant::now();
            assert_eq!(uplink.connect(soon(), &present), None);
            let (mut data, _) = listener.accept().unwrap();
            data.read_exact(&mut [0; Preamble::BYTES]).unwrap();
            data.set_nonblocking(true).unwrap();
            data
        };
        let begun = |uplink: &Uplink| uplink.control.as_ref().unwrap().answers;
        let (mut first, mut bytes) = (open(&mut uplink), Vec::new());
        let some = begun(&uplink);
        assert!(0 < some && some < count, "{some}");
        // It goes on as they are read, and is cut off in the middle of one.
        while begun(&uplink) < some + 1_000 || uplink.data.as_ref().unwrap().unsent.is_empty() {
            read(&mut first, &mut bytes);
            assert_eq!(uplink.sweep(&present), None);
        }
        let cut = begun(&uplink) - 1;
        drop(first);
        let told = std::iter::repeat_with(|| uplink.sweep(&present))
            .flatten()
            .next();
        assert!(told.unwrap().contains("ended the data connection"));
        assert_eq!((begun(&uplink), uplink.data.is_none()), (cut, true));
        let mut second = open(&mut uplink);
        bytes.clear();
        while bytes.len() < (count - cut) * DataFrame::BYTES {
            assert_eq!(uplink.sweep(&present), None);
            read(&mut second, &mut bytes);
        }
        let (frames, _) = bytes.as_chunks();
        let numbers = frames.iter().map(|frame| DataFrame::decode(frame).start_us);
        assert!(numbers.eq(cut as u64..count as u64));
    }
}
