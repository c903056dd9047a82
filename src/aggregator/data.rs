//! The aggregator's end of the data channel: preambles and observations.
//!
//! Invariant: a connection has no effect until an observation on it (80 bytes) verifies under the key that it named. So
//! naming another collector's key does that collector no harm. A connection costs 80 bytes of buffer, and one signature
//! check per frame. A connection with a refused frame is closed.

use super::{Slot, count};
use crate::system::inbox::Inbox;
use crate::system::limits::*;
use crate::wire::Preamble;
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Observation;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::{Observed, Round};
use rsoracle_verify::error::Error;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// One connection on the data port.
struct Sender {
    inbox: Inbox<{ Observation::BYTES }>,
    since: Instant,
    /// The slot whose key its preamble named.
    slot: Option<u16>,
}

/// The listening socket, and the connections on it.
pub struct DataChannel {
    listener: TcpListener,
    /// Oldest first.
    senders: Vec<Sender>,
    /// By slot: why its answer was refused in this round, if another feed or another sample rule would explain the refusal.
    misfits: BTreeMap<u16, Reject>,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl DataChannel {
    /// Takes over a non-blocking listener.
    pub fn new(listener: TcpListener) -> Result<DataChannel, Error> {
        let address = listener.local_addr();
        let address =
            address.map_err(|error| Error::new("cannot read the data channel's address", error))?;
        Ok(DataChannel {
            listener,
            senders: Vec::new(),
            misfits: BTreeMap::new(),
            address,
        })
    }

    /// Polls every connection once, and accepts new ones last, so that they displace none that has just sent something.
    /// Returns whether anything happened, or connections are open that have named no slot yet.
    pub fn sweep(
        &mut self,
        slots: &[Slot],
        mut round: Option<&mut Round>,
        refused: &mut Refused,
    ) -> bool {
        let mut stirred = false;
        self.senders.retain_mut(|sender| {
            let heard = sender.hear(slots, round.as_deref_mut());
            let stays = keep(heard, sender.slot, refused, &mut self.misfits);
            stirred |= !stays || sender.slot.is_none() || !sender.inbox.bytes().is_empty();
            stays
        });
        for _ in 0..ACCEPTS_PER_SWEEP {
            let Ok((tcp, _)) = self.listener.accept() else {
                return stirred;
            };
            stirred = true;
            let Ok(inbox) = Inbox::new(tcp) else { continue };
            if self.senders.len() >= slots.len() + STRANGERS_MAX {
                self.displace(slots.len());
                count(refused, Reject::Crowded);
            }
            let mut sender = Sender {
                inbox,
                since: Instant::now(),
                slot: None,
            };
            let heard = sender.hear(slots, round.as_deref_mut());
            if keep(heard, sender.slot, refused, &mut self.misfits) {
                self.senders.push(sender);
            }
        }
        stirred
    }

    /// Makes room by closing one connection. The largest group loses one: either the connections that have named no slot yet
    /// lose their oldest, or the connections of one slot lose their newest. So a crowd displaces its own connections. A
    /// collector connects before it is ready for rounds, so usually before a crowd that names its slot.
    fn displace(&mut self, slots: usize) {
        let mut held = vec![0u32; slots];
        self.senders
            .iter()
            .filter_map(|sender| sender.slot)
            .for_each(|slot| held[usize::from(slot)] += 1);
        let most = held.iter().copied().max().unwrap_or(0);
        let nameless = |sender: &Sender| sender.slot.is_none();
        let crowded = |sender: &Sender| {
            sender
                .slot
                .is_some_and(|slot| held[usize::from(slot)] == most)
        };
        let nameless_many = self.senders.iter().filter(|s| nameless(s)).count() >= most as usize;
        let at = if nameless_many {
            self.senders.iter().position(nameless)
        } else {
            self.senders.iter().rposition(crowded)
        };
        if let Some(at) = at {
            self.senders.remove(at);
        }
    }

    /// The round is over: counts observations whose samples did not come. Returns which slots' answers were refused,
    /// and why. (Anybody may have sent them, so this may explain a silence and proves nothing.)
    pub(crate) fn close_round(&mut self, refused: &mut Refused) -> BTreeMap<u16, Reject> {
        let waiting = |sender: &&Sender| {
            sender.slot.is_some() && sender.inbox.bytes().len() == Observation::BYTES
        };
        for _ in self.senders.iter().filter(waiting) {
            count(refused, Reject::SamplesMissing);
        }
        std::mem::take(&mut self.misfits)
    }
}

/// Whether a connection of `slot` stays open. If it closes for a reason, counts that reason.
fn keep(
    heard: Result<(), Option<Reject>>,
    slot: Option<u16>,
    refused: &mut Refused,
    misfits: &mut BTreeMap<u16, Reject>,
) -> bool {
    if let Err(Some(reason)) = heard {
        count(refused, reason);
        if let (Some(slot), Reject::Signature | Reject::AverageDiffers) = (slot, reason) {
            misfits.insert(slot, reason);
        }
    }
    heard.is_ok()
}

impl Sender {
    /// Reads what has arrived. An error ends the connection: for a reason, or without one if the other side ended it.
    fn hear(&mut self, slots: &[Slot], round: Option<&mut Round>) -> Result<(), Option<Reject>> {
        self.inbox.fill();
        if self.slot.is_none() {
            let Some(bytes) = self.inbox.peek() else {
                return self.waits(HELLO_MS_MAX, self.since, Reject::HelloLate);
            };
            match named(&bytes, slots)? {
                Some(slot) => self.slot = Some(slot),
                // The preamble may arrive before the hello, which comes over the other port.
                None if self.inbox.ended() => return Err(Some(Reject::KeyUnknown)),
                None => return self.waits(HELLO_MS_MAX, self.since, Reject::KeyUnknown),
            }
            self.inbox.consume(Preamble::BYTES);
            self.inbox.fill();
        }
        let slot = self.slot.expect("a preamble named it above");
        let Some(bytes) = self.inbox.peek::<{ Observation::BYTES }>() else {
            let begun = self.inbox.begun().unwrap_or_else(Instant::now);
            return self.waits(FRAME_MS_MAX, begun, Reject::FrameLate);
        };
        match round.ok_or(Reject::NoRound)?.observe(slot, &bytes)? {
            Observed::Accepted => self.inbox.consume(Observation::BYTES),
            Observed::TooEarly => {}
        }
        Ok(())
    }

    /// Whether a connection without a whole frame may stay. It may for `ms_max` from `since`; then the reason is `late`.
    fn waits(&self, ms_max: u64, since: Instant, late: Reject) -> Result<(), Option<Reject>> {
        if self.inbox.ended() {
            return Err((!self.inbox.bytes().is_empty()).then_some(Reject::HalfFrame));
        }
        if since.elapsed() > Duration::from_millis(ms_max) {
            Err(Some(late))
        } else {
            Ok(())
        }
    }
}

/// The slot that a preamble names, if its key is that slot's key; `None` while the slot's key is unknown, before a hello.
fn named(bytes: &[u8; Preamble::BYTES], slots: &[Slot]) -> Result<Option<u16>, Reject> {
    let preamble = Preamble::decode(bytes)?;
    let slot = slots
        .get(usize::from(preamble.slot))
        .ok_or(Reject::SlotUnknown)?;
    match slot.key {
        Some(key) if *key.bytes() == preamble.key => Ok(Some(preamble.slot)),
        Some(_) => Err(Reject::KeyUnknown),
        None => Ok(None),
    }
}
