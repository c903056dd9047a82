//! The aggregator's end of the control channel. A connection is a *stranger* until its hello proves that it is the collector
//! of a slot; then it is that slot's *member*.
//!
//! Invariant: a stranger costs a bounded buffer, one signature check, and at most [`HELLO_MS_MAX`]. It takes no slot. When
//! there are too many strangers, they displace only each other, the oldest first: an honest collector needs milliseconds.

use super::{Slot, count};
use crate::keys::secret::signed_hello;
use crate::system::clock::span;
use crate::system::inbox::Inbox;
use crate::system::limits::*;
use crate::system::now::wall_us;
use crate::system::random;
use crate::wire::{
    CONTROL_BYTES_MAX, Challenge, FrameKind, HEAD_BYTES, Hello, Ready, Refusal, Sample,
};
use rsoracle_proof::bytes::padded;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Most frames of one member that are read in one sweep.
const FRAMES_PER_SWEEP: usize = 64;

/// A connection that has not proved anything yet.
struct Stranger {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    nonce: [u8; 32],
    since: Instant,
}

/// The connected collector of a slot.
pub struct Member {
    /// Its connection.
    pub inbox: Inbox<CONTROL_BYTES_MAX>,
    /// The nonce of its challenge.
    pub nonce: [u8; 32],
    /// The signature in its hello.
    pub hello_signature: [u8; 64],
    /// Time from challenge to hello.
    pub round_trip_us: u64,
    /// Its clock minus ours when its hello was read; includes the hello's travel time.
    pub clock_offset_us: i64,
    /// The first price that it read; `None` until it is ready.
    pub first_price: Option<f64>,
    /// Start of the last round that was announced to it; 0 if none was.
    pub round_start_us: u64,
}

/// The listening socket, and the strangers on it.
pub struct ControlChannel {
    listener: TcpListener,
    strangers: VecDeque<Stranger>,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl ControlChannel {
    /// Takes over a non-blocking listener.
    pub fn new(listener: TcpListener) -> Result<ControlChannel, Error> {
        let address = listener.local_addr();
        let address = address
            .map_err(|error| Error::new("cannot read the control channel's address", error))?;
        Ok(ControlChannel {
            listener,
            strangers: VecDeque::new(),
            address,
        })
    }

    /// Polls every connection once. `joining`: whether collectors may join now. Returns whether a member left or strangers are
    /// connected. Frames of members are not reported, since they can wait.
    pub fn sweep(
        &mut self,
        slots: &mut [Slot],
        mut round: Option<&mut Round>,
        joining: bool,
        refused: &mut Refused,
    ) -> bool {
        let mut stirred = !self.strangers.is_empty();
        for (index, slot) in slots.iter_mut().enumerate() {
            let Some(member) = &mut slot.member else {
                continue;
            };
            let heard = hear(member, index as u16, round.as_deref_mut(), refused);
            let Err(departure) = heard else { continue };
            stirred = true;
            let member = slot.member.take().expect("it was just heard");
            match departure {
                Departure::Refused(reason) => {
                    slot.remark = format!("refused: {reason}");
                    refuse(member.inbox, reason, refused);
                }
                Departure::Refuses(reason) => {
                    slot.remark = format!("it refused this aggregator: {reason}")
                }
                // Keep an earlier remark: how its process ended says more.
                Departure::Ended if slot.remark.is_empty() => {
                    slot.remark.push_str("its control connection ended");
                }
                Departure::Ended => {}
            }
        }
        // Read hellos before accepting, so that no stranger is displaced after its hello has arrived.
        self.prove(slots, joining, refused);
        self.accept(refused);
        stirred || !self.strangers.is_empty()
    }

    /// Accepts new connections, and sends each its challenge.
    fn accept(&mut self, refused: &mut Refused) {
        for _ in 0..ACCEPTS_PER_SWEEP {
            let Ok((tcp, _)) = self.listener.accept() else {
                return;
            };
            let (Ok(mut inbox), Ok(nonce)) = (Inbox::new(tcp), random::bytes()) else {
                continue;
            };
            if self.strangers.len() >= STRANGERS_MAX
                && let Some(oldest) = self.strangers.pop_front()
            {
                refuse(oldest.inbox, Reject::Crowded, refused);
            }
            if inbox.send(&Challenge { nonce }.encode()) {
                self.strangers.push_back(Stranger {
                    inbox,
                    nonce,
                    since: Instant::now(),
                });
            }
        }
    }

    /// Reads hellos: a stranger becomes a member, stays a stranger, or is refused.
    fn prove(&mut self, slots: &mut [Slot], joining: bool, refused: &mut Refused) {
        for _ in 0..self.strangers.len() {
            let Some(mut stranger) = self.strangers.pop_front() else {
                return;
            };
            stranger.inbox.fill();
            match stranger.proof(slots, joining) {
                Ok(Some((key, hello))) => {
                    let slot = &mut slots[usize::from(hello.slot)];
                    slot.key = Some(key);
                    slot.remark.clear();
                    slot.member = Some(stranger.enter(hello));
                }
                Ok(None) if stranger.inbox.ended() && stranger.inbox.bytes().is_empty() => {}
                Ok(None) if stranger.inbox.ended() => count(refused, Reject::HalfFrame),
                Ok(None) => self.strangers.push_back(stranger),
                Err(reason) => refuse(stranger.inbox, reason, refused),
            }
        }
    }
}

/// What is wrong with the clocks of the collectors to whom their first round is about to be announced.
pub(super) fn clock_lines(slots: &[Slot]) -> Vec<String> {
    let line = |(index, slot): (u16, &Slot)| {
        let member = slot.member.as_ref().filter(|_| slot.ready())?;
        let (off_us, new) = (member.clock_offset_us, member.round_start_us == 0);
        let way = if off_us < 0 { "behind" } else { "ahead of" };
        let off = off_us.unsigned_abs() > CLOCK_OFF_US_MAX + member.round_trip_us;
        (off && new).then(|| format!("aggregator: collector {index}: its clock is {} {way} this machine's: set both (NTP); its samples are not taken when the others are, and its answers may come too late", span(off_us.unsigned_abs())))
    };
    (0..).zip(slots).filter_map(line).collect()
}

impl Stranger {
    /// The hello, once it has arrived and everything about it was checked, and its key.
    fn proof(
        &mut self,
        slots: &[Slot],
        joining: bool,
    ) -> Result<Option<(PublicKey, Hello)>, Reject> {
        if let Some(head) = self.inbox.peek::<HEAD_BYTES>()
            && FrameKind::decode(&head)? != FrameKind::Hello
        {
            return Err(Reject::Kind);
        }
        let Some(bytes) = self.inbox.peek() else {
            let late = self.since.elapsed() > Duration::from_millis(HELLO_MS_MAX);
            return if late {
                Err(Reject::HelloLate)
            } else {
                Ok(None)
            };
        };
        let hello = Hello::decode(&bytes)?;
        let slot = slots
            .get(usize::from(hello.slot))
            .ok_or(Reject::SlotUnknown)?;
        let key = PublicKey::decode(&hello.key).ok_or(Reject::KeyWeak)?;
        if !signed_hello(&key, &self.nonce, &slot.secret, &hello) {
            return Err(Reject::HelloSignature);
        }
        if hello.source != padded::<32>(&slot.source) {
            return Err(Reject::SourceDiffers);
        }
        if !joining {
            return Err(Reject::RoundRunning);
        }
        if slot.member.is_some() {
            return Err(Reject::SlotTaken);
        }
        let elsewhere = |(index, other): (usize, &Slot)| {
            index != usize::from(hello.slot) && other.key == Some(key)
        };
        if slots.iter().enumerate().any(elsewhere) {
            return Err(Reject::KeyTaken);
        }
        Ok(Some((key, hello)))
    }

    fn enter(mut self, hello: Hello) -> Member {
        self.inbox.consume(Hello::BYTES);
        Member {
            round_trip_us: self.since.elapsed().as_micros() as u64,
            clock_offset_us: hello.clock_us.wrapping_sub(wall_us()).cast_signed(),
            inbox: self.inbox,
            nonce: self.nonce,
            hello_signature: hello.signature,
            first_price: None,
            round_start_us: 0,
        }
    }
}

/// Why a member leaves its slot.
enum Departure {
    /// Its connection ended.
    Ended,
    /// We refused what it sent.
    Refused(Reject),
    /// It refused what we sent.
    Refuses(Reject),
}

impl From<Reject> for Departure {
    fn from(reason: Reject) -> Departure {
        Departure::Refused(reason)
    }
}

/// Reads a member's frames. An error ends its membership.
fn hear(
    member: &mut Member,
    slot: u16,
    mut round: Option<&mut Round>,
    refused: &mut Refused,
) -> Result<(), Departure> {
    for _ in 0..FRAMES_PER_SWEEP {
        member.inbox.fill();
        let kind = match member.inbox.peek::<HEAD_BYTES>() {
            Some(head) => FrameKind::decode(&head)?,
            None => return still_there(member),
        };
        if member.inbox.bytes().len() < kind.bytes() {
            return still_there(member);
        }
        match kind {
            FrameKind::Ready => {
                let bytes = member.inbox.peek().expect("the frame is here");
                let ready = Ready::decode(&bytes)?;
                // If a round is running, it was not announced to this member.
                member.first_price = Some(ready.price);
            }
            FrameKind::Sample => {
                let bytes = member.inbox.peek().expect("the frame is here");
                let told = |round: &&mut Round| round.start_us == member.round_start_us;
                let round = round.as_deref_mut().filter(told).ok_or(Reject::NoRound);
                let heard = round.and_then(|round| {
                    let sample = Sample::decode(&bytes)?;
                    round.sample(slot, sample.start_us, &sample.record)
                });
                heard.unwrap_or_else(|reason| count(refused, reason));
            }
            FrameKind::Refusal => {
                let bytes = member.inbox.peek().expect("the frame is here");
                return Err(Departure::Refuses(Refusal::decode(&bytes)?.reason));
            }
            _ => return Err(Departure::Refused(Reject::Kind)),
        }
        member.inbox.consume(kind.bytes());
    }
    Ok(())
}

/// Whether a member that has sent no whole frame may stay.
fn still_there(member: &Member) -> Result<(), Departure> {
    if member.inbox.ended() {
        let half = !member.inbox.bytes().is_empty();
        return Err(if half {
            Departure::Refused(Reject::HalfFrame)
        } else {
            Departure::Ended
        });
    }
    match member.inbox.begun() {
        Some(begun) if begun.elapsed() > Duration::from_millis(FRAME_MS_MAX) => {
            Err(Departure::Refused(Reject::FrameLate))
        }
        _ => Ok(()),
    }
}

/// Sends the reason, ends the connection, and counts the refusal.
fn refuse(mut inbox: Inbox<CONTROL_BYTES_MAX>, reason: Reject, refused: &mut Refused) {
    count(refused, reason);
    if !inbox.ended() && inbox.send(&Refusal { reason }.encode()) {
        inbox.end();
    }
}
