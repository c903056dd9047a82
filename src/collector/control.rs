//! A collector's control connection to one aggregator: answers challenge and pings, and says what there is to say.
//!
//! Invariant: the connection gets the samples of the running round in order, from the first, however late it was opened.

use super::present::{Present, Running};
use super::rest::Rest;
use crate::collector::limits::*;
use crate::system::inbox::Inbox;
use crate::system::now::wall_us;
use crate::wire::*;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::seal::PublicKey;
use std::fmt;
use std::time::{Duration, Instant};

/// Why a control connection was given up.
pub(super) enum Loss {
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
            Loss::Refused(reason @ Reject::HelloSignature) => write!(
                f,
                "refused this collector: {reason}; most likely the key after @ is not this aggregator's; compare it with the key that the aggregator shows at its start"
            ),
            Loss::Refused(reason) => write!(f, "refused this collector: {reason}"),
            Loss::Frame(reason) => write!(f, "sent a frame that was refused: {reason}"),
        }
    }
}

/// An open control connection.
pub(super) struct Control {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    pub(super) opened_at: Instant,
    /// When the last frame came.
    heard_at: Instant,
    /// What the connection has not taken yet, and since when it takes nothing.
    unsent: Rest,
    sent_at: Instant,
    pub(super) greeted: bool,
    /// How many of the *ready* frames of an edition it has got.
    edition: u64,
    ready: usize,
    /// The round whose samples it gets, how many it has got, and how many answers have gone the other way.
    start_us: u64,
    samples: usize,
    pub(super) answers: usize,
}

impl Control {
    pub(super) fn new(inbox: Inbox<CONTROL_BYTES_MAX>) -> Control {
        let now = Instant::now();
        Control {
            inbox,
            opened_at: now,
            heard_at: now,
            unsent: Rest::default(),
            sent_at: now,
            greeted: false,
            edition: 0,
            ready: 0,
            start_us: 0,
            samples: 0,
            answers: 0,
        }
    }

    /// Waits up to `patience` for something to read.
    pub(super) fn wait(&mut self, patience: Duration) {
        self.inbox.wait(patience);
    }

    /// Reads what has come and sends what there is to say.
    pub(super) fn sweep(&mut self, present: &Present, aggregator: &PublicKey) -> Result<(), Loss> {
        self.inbox.fill();
        self.unsent.flush(&mut self.inbox);
        if self.unsent.is_empty() {
            self.sent_at = Instant::now();
        }
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

    /// Sends frames, unless one before them is not through. Returns how many were begun.
    fn send<const N: usize>(&mut self, frames: &[[u8; N]]) -> usize {
        self.unsent.send(&mut self.inbox, frames)
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
                hello.signature = present.key.sign(&hello.signed_bytes(&nonce, aggregator));
                self.send(&[hello.encode()]);
                self.greeted = true;
            }
            FrameKind::Ping if self.greeted => {
                let bytes = self.inbox.peek().expect("the frame has come");
                let pong = Pong {
                    echo_us: Ping::decode(&bytes).map_err(Loss::Frame)?.clock_us,
                    clock_us: wall_us(),
                };
                self.send(&[pong.encode()]);
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

    /// Sends the *ready* frames, then the samples, that this connection has not got.
    fn tell(&mut self, present: &Present) {
        if self.edition != present.edition {
            (self.edition, self.ready) = (present.edition, 0);
        }
        self.ready += self.send(&present.ready[self.ready..]);
        let Some(running) = &present.running else {
            return;
        };
        if self.start_us != running.start_us {
            (self.start_us, self.samples, self.answers) = (running.start_us, 0, 0);
        }
        self.samples += self.send(&running.samples[self.samples..]);
    }

    /// Whether this connection lacks nothing but the answers that there are.
    pub(super) fn is_told(&self, running: &Running) -> bool {
        self.samples == running.samples.len() && self.unsent.is_empty()
    }

    /// Whether the answers of the running round are not all sent yet, and there is time to send them.
    pub(super) fn lacks_answers(&self, running: &Running) -> bool {
        let has = self.start_us == running.start_us && self.answers == running.answers_due;
        self.greeted && !has && Instant::now() < running.end_at
    }

    /// Ends the connection; says why, if the other side can know.
    pub(super) fn end(mut self, loss: &Loss) {
        if let Loss::Frame(reason) = *loss {
            self.send(&[Refusal { reason }.encode()]);
            self.inbox.end();
        }
    }
}
