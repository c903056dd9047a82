//! A collector's end of the control channel: hello, announcements of rounds, samples.
//!
//! Invariant: a round is accepted only if the aggregator signed it for this connection, and its instants are later than those
//! of all rounds before. So however many rounds are announced, an exchange is asked at most once every
//! [`INTERVAL_US_MIN`]. A frame that has no place here is answered when it is read, and ends this collector.

use super::{Enrolment, Stop};
use crate::collector::settings::Collect;
use crate::keys::secret::{SecretKey, round_bytes};
use crate::system::clock::span;
use crate::system::inbox::{Inbox, waits};
use crate::system::limits::*;
use crate::system::now::wall_us;
use crate::wire::{CONTROL_BYTES_MAX, Challenge, FrameKind, Hello, Refusal, RoundFrame};
use rsoracle_proof::answer::lateness_us_max;
use rsoracle_proof::bytes::padded;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connects to one of the aggregator's ports. An attempt that times out is repeated until `until`, as long as `look`
/// allows: a listener whose queue is full drops attempts silently, and the next one may succeed.
pub fn reach(
    address: &SocketAddr,
    until: Instant,
    mut look: impl FnMut() -> io::Result<()>,
) -> io::Result<TcpStream> {
    loop {
        match TcpStream::connect_timeout(address, Duration::from_millis(CONNECT_SLICE_MS)) {
            Err(error) if waits(&error) && Instant::now() < until => look()?,
            reached => return reached,
        }
    }
}

/// How long ago the time for the round's last sample ended; `None` if it has not ended. A collector that was delayed may read
/// announcements of rounds that are over.
pub(crate) fn over_us(round: &RoundFrame, now_us: u64) -> Option<u64> {
    now_us.checked_sub(last_us(round) + lateness_us_max(round.interval_us) + 1)
}

/// The control connection, after the hello was sent.
pub struct Control {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    aggregator: PublicKey,
    nonce: [u8; 32],
    hello_signature: [u8; 64],
    /// The refusal that ended this connection, whichever side sent it: its reason, and the error to report.
    refused: Option<(Reject, Error)>,
    /// The next round: its announcement was read and checked, and is still in the inbox.
    next: Option<RoundFrame>,
    /// The earliest start that the next round may have.
    start_us_min: u64,
}

impl Control {
    /// Connects, reads the challenge, and answers it with a signed hello. An attempt can fail when strangers crowd the
    /// aggregator's port, so it is repeated until `until`.
    pub fn open(
        config: &Collect,
        enrolment: &Enrolment,
        key: &SecretKey,
        until: Instant,
    ) -> Result<Control, Error> {
        loop {
            match Control::try_open(config, enrolment, key, until) {
                Err(error) if error.passing && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(RECONNECT_MS));
                }
                opened => return opened,
            }
        }
    }

    fn try_open(
        config: &Collect,
        enrolment: &Enrolment,
        key: &SecretKey,
        until: Instant,
    ) -> Result<Control, Error> {
        let attempt = format!("cannot open the control channel to {}", config.control);
        let advice = "check --control, and that the aggregator runs";
        let failed = |error: io::Error| Error::new(&attempt, error).advise(advice);
        let tcp = reach(&config.control, until, || Ok(())).map_err(failed)?;
        let mut inbox = Inbox::<CONTROL_BYTES_MAX>::new(tcp).map_err(failed)?;
        let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
        let bytes = loop {
            inbox.wait(Duration::from_millis(SLICE_MS));
            inbox.fill();
            if let Some(bytes) = inbox.peek() {
                break bytes;
            }
            if inbox.ended() || Instant::now() >= until {
                return Err(Error::new(&attempt, "the other side sent no challenge").advise(advice));
            }
        };
        inbox.consume(Challenge::BYTES);
        let Challenge { nonce } = Challenge::decode(&bytes)
            .map_err(|reject| Error::new(&attempt, reject).advise(advice))?;
        let mut hello = Hello {
            slot: config.slot,
            key: *key.public().bytes(),
            source: padded(&config.source.name),
            clock_us: wall_us(),
            signature: [0; 64],
        };
        hello.signature = key.sign_hello(&nonce, &enrolment.secret, &hello);
        let mut control = Control {
            inbox,
            aggregator: enrolment.aggregator,
            nonce,
            hello_signature: hello.signature,
            refused: None,
            next: None,
            start_us_min: 1,
        };
        if control.send(&hello.encode()).is_err() {
            let error = Error::new(attempt, "the other side ended the connection");
            return Err(error.advise(advice).passing());
        }
        Ok(control)
    }

    /// Sends a frame. A connection that does not accept it counts as ended.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), Stop> {
        if self.inbox.send(frame) {
            Ok(())
        } else {
            Err(Stop::Aggregator)
        }
    }

    /// Whether the connection has ended or was refused.
    pub fn over(&self) -> bool {
        self.refused.is_some() || self.inbox.ended()
    }

    /// Whether the aggregator dropped this connection before it read the hello: newer connections displaced it, or the hello
    /// was late (this process waited too long for a core).
    pub(crate) fn unheard(&self) -> bool {
        let reason = self.refused.as_ref().map(|(reason, _)| reason);
        matches!(reason, Some(Reject::Crowded | Reject::HelloLate))
    }

    /// Reads and checks what has arrived, and fails if the connection has ended, was refused, or has brought a frame that has
    /// no place here: that frame is refused at once.
    pub fn look(&mut self) -> Result<(), Error> {
        self.inbox.fill();
        if self.refused.is_none()
            && let Err(reason) = self.judge(wall_us())
        {
            let _ = self.send(&Refusal { reason }.encode());
            let error = Error::new("refused a frame of the aggregator", reason);
            self.refused = Some((reason, error.advise(advice(reason, &self.inbox, wall_us()))));
        }
        match self.stop() {
            Stop::Failed(error) => Err(error),
            Stop::Aggregator if self.over() => {
                Err(Error::new("the aggregator has ended", "no connection"))
            }
            Stop::Aggregator => Ok(()),
        }
    }

    /// Checks the first frame in the inbox, if it has arrived and was not checked before.
    fn judge(&mut self, now_us: u64) -> Result<(), Reject> {
        let Some(head) = self.inbox.peek().filter(|_| self.next.is_none()) else {
            return Ok(());
        };
        match FrameKind::decode(&head)? {
            FrameKind::Round => {
                if let Some(bytes) = self.inbox.peek() {
                    let round = RoundFrame::decode(&bytes)?;
                    self.check(&round, now_us)?;
                    self.next = Some(round);
                }
            }
            FrameKind::Refusal => {
                if let Some(bytes) = self.inbox.peek() {
                    let Refusal { reason } = Refusal::decode(&bytes)?;
                    let attempt = "the aggregator refused this collector";
                    self.refused = Some((reason, Error::new(attempt, reason)));
                }
            }
            _ => return Err(Reject::Kind),
        }
        Ok(())
    }

    /// Like [`Control::look`], but the error is the reason to stop.
    pub fn stands(&mut self) -> Result<(), Stop> {
        self.look().map_err(|_| self.stop())
    }

    /// Why this collector stops when the connection is over: a refusal is a failure, the aggregator's end is not.
    pub fn stop(&self) -> Stop {
        let refused = self.refused.as_ref();
        refused.map_or(Stop::Aggregator, |(_, error)| Stop::Failed(error.clone()))
    }

    /// Like [`Control::look`], but also fails if a round is waiting: for work that must not delay a round.
    pub(crate) fn look_for_round(&mut self) -> Result<(), Error> {
        self.look()?;
        if self.round_waits() {
            Err(Error::new("interrupted", "a round is about to begin"))
        } else {
            Ok(())
        }
    }

    /// Whether the announcement of a round waits. The aggregator announces one round at a time, so the round before is over.
    pub(crate) fn round_waits(&self) -> bool {
        self.next.is_some()
    }

    /// Waits up to `patience` for bytes from the aggregator, unless a round waits.
    pub fn wait(&mut self, patience: Duration) {
        if !self.round_waits() {
            self.inbox.wait(patience);
        }
    }

    /// Sleeps for `pause`; stops early only if the connection ends.
    pub fn pause(&mut self, pause: Duration) -> Result<(), Stop> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.stands()?;
            std::thread::sleep(
                until
                    .saturating_duration_since(Instant::now())
                    .min(Duration::from_millis(SLICE_MS)),
            );
        }
        Ok(())
    }

    /// Takes the announcement of a round, if one has arrived.
    pub fn round(&mut self) -> Result<Option<RoundFrame>, Stop> {
        self.stands()?;
        let Some(round) = self.next.take() else {
            return Ok(None);
        };
        self.inbox.consume(RoundFrame::BYTES);
        self.start_us_min = last_us(&round) + INTERVAL_US_MIN;
        Ok(Some(round))
    }

    fn check(&self, round: &RoundFrame, now_us: u64) -> Result<(), Reject> {
        let signed = round_bytes(&self.nonce, &self.hello_signature, round);
        if !self.aggregator.signed(&signed, &round.signature) {
            return Err(Reject::RoundSignature);
        }
        let length_us =
            u64::from(round.samples.saturating_sub(1)).saturating_mul(round.interval_us);
        let shaped = (1..=SAMPLES_MAX).contains(&round.samples)
            && (INTERVAL_US_MIN..=INTERVAL_US_MAX).contains(&round.interval_us)
            && length_us <= ROUND_US_MAX;
        if !shaped {
            return Err(Reject::RoundShape);
        }
        // A start in the past is accepted: it costs the samples that were due before now. The caller skips a round that is over
        // (`over_us`).
        let timely = (self.start_us_min..=now_us + START_AHEAD_US_MAX).contains(&round.start_us);
        if timely {
            Ok(())
        } else {
            Err(Reject::RoundStart)
        }
    }
}

/// The instant of a round's last sample.
fn last_us(round: &RoundFrame) -> u64 {
    round.start_us + u64::from(round.samples - 1) * round.interval_us
}

/// What the operator can do about a frame of the aggregator's that was refused.
fn advice(reason: Reject, inbox: &Inbox<CONTROL_BYTES_MAX>, now_us: u64) -> String {
    let advice =
        "rounds of this collector can only be started by the aggregator that wrote its enrolment";
    let round = inbox
        .peek()
        .and_then(|bytes| RoundFrame::decode(&bytes).ok());
    match round.and_then(|round| round.start_us.checked_sub(now_us)) {
        Some(ahead_us) if reason == Reject::RoundStart && ahead_us > START_AHEAD_US_MAX => format!(
            "{advice}; by this machine's clock it starts in {}, and at most {} are allowed: set both machines' clocks (NTP)",
            span(ahead_us),
            span(START_AHEAD_US_MAX)
        ),
        _ => advice.to_owned(),
    }
}
