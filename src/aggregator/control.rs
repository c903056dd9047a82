//! The aggregator's end of the control channel. A connection is a *stranger* until its hello proves a key that the terms name;
//! then it is a *member* of that key's slot.
//!
//! Invariant: a stranger costs a bounded buffer, one signature check, and at most [`HELLO_MS_MAX`]. It takes no slot. When
//! there are too many strangers, they displace only each other, the oldest first: an honest collector needs milliseconds. A
//! member displaces only another of its own key.

use super::agreed::Agreed;
use super::tracks::{Track, Tracks};
use super::{Slot, count};
use crate::aggregator::limits::*;
use crate::system::inbox::Inbox;
use crate::system::now::wall_us;
use crate::system::random;
use crate::system::span::span;
use crate::wire::{
    CONTROL_BYTES_MAX, Challenge, FrameKind, HEAD_BYTES, Hello, Ping, Pong, Ready, Refusal, Sample,
};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::report::Refused;
use rsoracle_proof::seal::{PublicKey, hex};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Most frames of one member that are read in one sweep, for each feed.
const FRAMES_PER_SWEEP: usize = 64;
/// Most members of one slot.
const MEMBERS_MAX: usize = 2;

/// A connection that has not proved anything yet.
struct Stranger {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    nonce: [u8; 32],
    since: Instant,
}

/// A connected collector of a slot.
pub struct Member {
    inbox: Inbox<CONTROL_BYTES_MAX>,
    /// The samples that came over this connection.
    pub tracks: Tracks,
    /// The first price that it read of each feed; `None` until it is ready for that feed.
    pub first_prices: Vec<Option<f64>>,
    /// When bytes came from it last.
    heard_at: Instant,
    /// When the last ping was sent, and our clock in it.
    pinged: (Instant, u64),
    /// When the first ping was sent after which no bytes came.
    unanswered_since: Option<Instant>,
    /// Its clock minus ours, and the round trip, in microseconds. The former is known to within half of the latter.
    pub(super) clock: Option<(i64, u64)>,
    /// Whether the operator was told about its clock.
    clock_told: bool,
    /// The terms digest of a *ready* that is not known here, until it is clear what follows from that.
    stray: Option<[u8; 32]>,
    /// What the operator is told of such terms, if it is ready for a feed too.
    stray_remark: Option<String>,
    /// Whether it has feeds that this aggregator has not, or by other terms.
    strays: bool,
}

/// The listening socket, and the strangers on it.
pub struct ControlChannel {
    listener: TcpListener,
    strangers: VecDeque<Stranger>,
    /// The aggregator's key, which hellos sign.
    key: PublicKey,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl ControlChannel {
    /// Takes over a non-blocking listener. `key` is the aggregator's.
    pub fn new((listener, address): (TcpListener, SocketAddr), key: PublicKey) -> ControlChannel {
        ControlChannel {
            listener,
            strangers: VecDeque::new(),
            key,
            address,
        }
    }

    /// Polls every connection once. Samples of rounds that start before `floor_us` are over. Returns whether a member left, or
    /// strangers are connected: members' frames can wait.
    pub fn sweep(
        &mut self,
        slots: &mut [Slot],
        agreed: &Agreed,
        floor_us: u64,
        refused: &mut Refused,
    ) -> bool {
        let mut stirred = !self.strangers.is_empty();
        let now = Instant::now();
        for (index, slot) in slots.iter_mut().enumerate() {
            let mut at = 0;
            while let Some(member) = slot.members.get_mut(at) {
                let place = (index as u16, slot.seats.as_slice());
                let heard = hear(member, place, agreed, floor_us, refused);
                match heard.and_then(|()| member.ping_in_time(now)) {
                    Ok(()) => at += 1,
                    Err(departure) => {
                        stirred = true;
                        let member = slot.leave(at, floor_us);
                        dismiss(slot, member, departure, refused);
                    }
                }
            }
        }
        // Read hellos before accepting, so that no stranger is displaced after its hello has arrived.
        self.prove(slots, floor_us, refused);
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
    fn prove(&mut self, slots: &mut [Slot], floor_us: u64, refused: &mut Refused) {
        for _ in 0..self.strangers.len() {
            let Some(mut stranger) = self.strangers.pop_front() else {
                return;
            };
            stranger.inbox.fill();
            match stranger.proof(slots, &self.key) {
                Ok(Some(at)) => {
                    let slot = &mut slots[at];
                    slot.remark.clear();
                    let silent =
                        (0..slot.members.len()).min_by_key(|at| slot.members[*at].heard_at);
                    if let Some(at) = silent.filter(|_| slot.members.len() >= MEMBERS_MAX) {
                        refuse(slot.leave(at, floor_us).inbox, Reject::Displaced, refused);
                    }
                    slot.members.push(stranger.enter(slot.seats.len()));
                }
                Ok(None) if stranger.inbox.ended() && stranger.inbox.bytes().is_empty() => {}
                Ok(None) if stranger.inbox.ended() => count(refused, Reject::HalfFrame),
                Ok(None) => self.strangers.push_back(stranger),
                Err(reason) => refuse(stranger.inbox, reason, refused),
            }
        }
    }
}

/// What is wrong with the clocks of collectors, or with the terms of some of their feeds. It is said once for each connection.
pub(super) fn odd_lines(slots: &mut [Slot]) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, slot) in slots.iter_mut().enumerate() {
        let who = slot.collector(index);
        let remarks = slot
            .members
            .iter_mut()
            .filter_map(|member| member.stray_remark.take());
        lines.extend(remarks.map(|remark| {
            format!("aggregator: {who}: one of its feeds was {remark}; its other feeds count")
        }));
        for member in slot.members.iter_mut().filter(|member| !member.clock_told) {
            let Some((off_us, round_trip_us)) = member.clock else {
                continue;
            };
            let way = if off_us < 0 { "behind" } else { "ahead of" };
            let off_us = off_us.unsigned_abs();
            if off_us > CLOCK_OFF_US_MAX + round_trip_us / 2 {
                member.clock_told = true;
                lines.push(format!("aggregator: {who}: its clock is {} {way} this machine's: set both (NTP); its samples are not taken when the others are, and its answers may come too late", span(off_us)));
            }
        }
    }
    lines
}

/// Forgets what members said of their clocks, and asks them again.
pub(super) fn ask_for_clocks(slots: &mut [Slot]) {
    let now = Instant::now();
    for member in slots.iter_mut().flat_map(|slot| &mut slot.members) {
        member.clock = None;
        member.ping(now);
    }
}

impl Stranger {
    /// The index of the slot whose key it proves, once its hello has arrived.
    fn proof(&mut self, slots: &[Slot], aggregator: &PublicKey) -> Result<Option<usize>, Reject> {
        if let Some(head) = self.inbox.peek::<HEAD_BYTES>()
            && FrameKind::decode(&head)? != FrameKind::Hello
        {
            return Err(Reject::Kind);
        }
        let Some(bytes) = self.inbox.peek() else {
            let is_late = self.since.elapsed() > Duration::from_millis(HELLO_MS_MAX);
            return if is_late {
                Err(Reject::HelloLate)
            } else {
                Ok(None)
            };
        };
        let hello = Hello::decode(&bytes)?;
        let key = PublicKey::decode(&hello.key).ok_or(Reject::KeyWeak)?;
        let at = slots.iter().position(|slot| slot.key == Some(key));
        let at = at.ok_or(Reject::KeyUnknown)?;
        let signed = hello.signed_bytes(&self.nonce, aggregator);
        if key.signed(&signed, &hello.signature) {
            Ok(Some(at))
        } else {
            Err(Reject::HelloSignature)
        }
    }

    /// It becomes a member, and gets its first ping.
    fn enter(mut self, feeds: usize) -> Member {
        self.inbox.consume(Hello::BYTES);
        let now = Instant::now();
        let mut member = Member {
            inbox: self.inbox,
            tracks: Tracks::default(),
            first_prices: vec![None; feeds],
            heard_at: now,
            pinged: (now, 0),
            unanswered_since: None,
            clock: None,
            clock_told: false,
            stray: None,
            stray_remark: None,
            strays: false,
        };
        member.ping(now);
        member
    }
}

impl Member {
    fn ping(&mut self, now: Instant) {
        let clock_us = wall_us();
        self.pinged = (now, clock_us);
        self.unanswered_since.get_or_insert(now);
        self.inbox.send(&Ping { clock_us }.encode());
    }

    /// Pings it if that is due. It departs if it has been silent for too long although it was pinged.
    fn ping_in_time(&mut self, now: Instant) -> Result<(), Departure> {
        let silence = Duration::from_millis(SILENCE_MS_MAX);
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.unanswered_since.is_some_and(|at| since(at) > silence) {
            return Err(Reject::Silent.into());
        }
        if since(self.pinged.0) >= Duration::from_millis(PING_MS) {
            self.ping(now);
        }
        Ok(())
    }

    /// Notes that it is ready: for the feed whose terms it names, in which it names its seat. Without terms it is ready for all
    /// feeds, and names its place in the roster.
    fn ready(
        &mut self,
        ready: &Ready,
        (slot, seats): (u16, &[Option<u16>]),
        agreed: &Agreed,
    ) -> Result<(), Departure> {
        let digest = &ready.terms_digest;
        let (place, prices) = match agreed.feed_of(digest) {
            Some(feed) => (seats[feed], &mut self.first_prices[feed..=feed]),
            None if *digest == [0; 32] => (Some(slot), &mut self.first_prices[..]),
            None if seats.len() == 1 => return Err(other_terms(digest, agreed)),
            // Another *ready*, of known terms, may follow.
            None => {
                self.stray = Some(*digest);
                return Ok(());
            }
        };
        if place != Some(ready.slot) {
            return Err(Reject::SlotDiffers.into());
        }
        prices.fill(Some(ready.price));
        Ok(())
    }

    /// Once all its frames are read: terms that are not known here are a feed's own matter if it is ready for another one. Else it
    /// departs.
    fn judge_stray(&mut self, agreed: &Agreed, refused: &mut Refused) -> Result<(), Departure> {
        let Some(digest) = self.stray.take() else {
            return Ok(());
        };
        let departure = other_terms(&digest, agreed);
        if self.first_prices.iter().all(Option::is_none) {
            return Err(departure);
        }
        count(refused, Reject::TermsDiffer);
        if !std::mem::replace(&mut self.strays, true) {
            self.stray_remark = Some(departure.remark);
        }
        Ok(())
    }

    /// Takes the answer to the last ping: what it says about the member's clock.
    fn pong(&mut self, pong: Pong) {
        let (at, clock_us) = self.pinged;
        if pong.echo_us == clock_us {
            let round_trip_us = at.elapsed().as_micros() as u64;
            let middle_us = clock_us + round_trip_us / 2;
            let offset_us = pong.clock_us.wrapping_sub(middle_us).cast_signed();
            self.clock = Some((offset_us, round_trip_us));
        }
    }
}

impl Slot {
    /// Takes a member out of the slot, and keeps what it has sent of the round that starts at `start_us`.
    fn leave(&mut self, at: usize, start_us: u64) -> Member {
        let mut member = self.members.remove(at);
        if self.left.start_us != start_us {
            let records = Vec::new();
            self.left = Track { start_us, records };
        }
        if let Some(track) = member.tracks.remove(start_us) {
            self.left.join(track);
        }
        member
    }
}

/// Why a member leaves its slot.
struct Departure {
    /// The reason that it is told.
    refusal: Option<Reject>,
    /// The same for the operator; empty if its connection ended.
    remark: String,
}

impl From<Reject> for Departure {
    fn from(reason: Reject) -> Departure {
        Departure {
            refusal: Some(reason),
            remark: format!("refused: {reason}"),
        }
    }
}

/// Ends a member's connection, and notes why if no other collector stands for its slot.
fn dismiss(slot: &mut Slot, member: Member, departure: Departure, refused: &mut Refused) {
    if let Some(reason) = departure.refusal {
        refuse(member.inbox, reason, refused);
    }
    match departure.remark.as_str() {
        _ if !slot.members.is_empty() => {}
        // Keep an earlier remark: how its process ended says more.
        "" if !slot.remark.is_empty() => {}
        "" => slot.remark.push_str("its control connection ended"),
        _ => slot.remark = departure.remark,
    }
}

/// Reads the frames of a member of a slot, with that slot's seats. An error ends its membership.
fn hear(
    member: &mut Member,
    (slot, seats): (u16, &[Option<u16>]),
    agreed: &Agreed,
    floor_us: u64,
    refused: &mut Refused,
) -> Result<(), Departure> {
    for _ in 0..FRAMES_PER_SWEEP * seats.len() {
        if member.inbox.fill() {
            member.heard_at = Instant::now();
            member.unanswered_since = None;
        }
        let kind = match member.inbox.peek::<HEAD_BYTES>() {
            Some(head) => FrameKind::decode(&head)?,
            None => {
                if member.inbox.bytes().is_empty() {
                    member.judge_stray(agreed, refused)?;
                }
                return still_there(&member.inbox);
            }
        };
        let has_a_place = [
            FrameKind::Ready,
            FrameKind::Sample,
            FrameKind::Pong,
            FrameKind::Refusal,
        ];
        if !has_a_place.contains(&kind) {
            return Err(Reject::Kind.into());
        }
        if member.inbox.bytes().len() < kind.bytes() {
            return still_there(&member.inbox);
        }
        let whole = "the frame is here";
        match kind {
            FrameKind::Ready => {
                let ready = Ready::decode(&member.inbox.peek().expect(whole))?;
                member.ready(&ready, (slot, seats), agreed)?;
            }
            FrameKind::Sample => {
                let bytes = member.inbox.peek().expect(whole);
                let taken = Sample::decode(&bytes).and_then(|sample| {
                    let named = agreed.named(&sample.tag, sample.start_us, floor_us)?;
                    seats[named.1].ok_or(Reject::SlotDiffers)?;
                    let (start_us, record) = (sample.start_us, &sample.record);
                    member.tracks.take(named, start_us, record, wall_us())
                });
                taken.unwrap_or_else(|reason| count(refused, reason));
            }
            FrameKind::Pong => {
                let pong = Pong::decode(&member.inbox.peek().expect(whole))?;
                member.pong(pong);
            }
            FrameKind::Refusal => {
                let refusal = Refusal::decode(&member.inbox.peek().expect(whole))?;
                return Err(Departure {
                    refusal: None,
                    remark: format!("it refused this aggregator: {}", refusal.reason),
                });
            }
            _ => return Err(Reject::Kind.into()),
        }
        member.inbox.consume(kind.bytes());
    }
    Ok(())
}

/// Why a member that has terms with the digest `theirs` departs.
fn other_terms(theirs: &[u8; 32], agreed: &Agreed) -> Departure {
    let short = |digest: &[u8; 32]| hex(&digest[..8]);
    let ours = agreed.newest().map_or(&[[0; 32]][..], |held| &held.digests);
    let ours = ours.iter().map(short).collect::<Vec<_>>().join(", ");
    let theirs = short(theirs);
    let mut departure = Departure::from(Reject::TermsDiffer);
    let more = format!("; its roster's terms are {theirs}, this aggregator's {ours}");
    departure.remark.push_str(&more);
    departure
}

/// Whether a member that has sent no whole frame may stay.
fn still_there(inbox: &Inbox<CONTROL_BYTES_MAX>) -> Result<(), Departure> {
    let half = inbox.begun();
    let late = |at: Instant| at.elapsed() > Duration::from_millis(FRAME_MS_MAX);
    match inbox.ended() {
        true if half.is_some() => Err(Reject::HalfFrame.into()),
        true => Err(Departure {
            refusal: None,
            remark: String::new(),
        }),
        false if half.is_some_and(late) => Err(Reject::FrameLate.into()),
        false => Ok(()),
    }
}

/// Sends the reason, ends the connection, and counts the refusal.
fn refuse(mut inbox: Inbox<CONTROL_BYTES_MAX>, reason: Reject, refused: &mut Refused) {
    count(refused, reason);
    if !inbox.ended() && inbox.send(&Refusal { reason }.encode()) {
        inbox.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::{roster, terms, two_feeds};
    use crate::aggregator::setup::listen;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::terms::{Roster, tag};
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&mut [seed; 32])
    }

    /// An aggregator's control channel, with the key 9 and a slot for each of the keys 0 and 1.
    struct Rig {
        channel: ControlChannel,
        slots: Vec<Slot>,
        agreed: Agreed,
        refused: Refused,
    }

    impl Rig {
        fn new() -> Rig {
            let roster = roster(&terms(&["kraken:BTC/USD"; 2], 0, 3));
            Rig::of(roster, &[0, 1].map(|seed| Some(key(seed).public())))
        }

        fn of(roster: Roster, keys: &[Option<PublicKey>]) -> Rig {
            let any = "127.0.0.1:0".parse().unwrap();
            let listening = listen(any, "control", "control-port", false).unwrap();
            let mut agreed = Agreed::default();
            let slots = Slot::all(&roster, keys);
            agreed.add(roster, 0);
            Rig {
                channel: ControlChannel::new(listening, key(9).public()),
                slots,
                agreed,
                refused: Refused::new(),
            }
        }

        fn sweep(&mut self) {
            let (slots, refused) = (&mut self.slots, &mut self.refused);
            self.channel.sweep(slots, &self.agreed, 0, refused);
        }

        /// Reads a frame that the channel sends within its next sweeps.
        fn read<const N: usize>(&mut self, peer: &mut TcpStream) -> [u8; N] {
            let (mut bytes, mut count) = ([0; N], 0);
            while count < N {
                self.sweep();
                count += peer.read(&mut bytes[count..]).unwrap_or(0);
            }
            bytes
        }

        /// Connects, and says hello with the key of a seed, to the aggregator with the key of another.
        fn hello(&mut self, seed: u8, aggregator: u8) -> TcpStream {
            let mut peer = TcpStream::connect(self.channel.address).unwrap();
            peer.set_nonblocking(true).unwrap();
            let challenge = Challenge::decode(&self.read(&mut peer)).unwrap();
            let mut hello = Hello {
                key: *key(seed).public().bytes(),
                clock_us: 1,
                signature: [0; 64],
            };
            let aggregator = key(aggregator).public();
            hello.signature = key(seed).sign(&hello.signed_bytes(&challenge.nonce, &aggregator));
            peer.write_all(&hello.encode()).unwrap();
            peer
        }

        fn ready(&mut self, peer: &mut TcpStream, slot: u16, terms_digest: [u8; 32]) {
            let ready = Ready {
                terms_digest,
                slot,
                price: 100.0,
            };
            peer.write_all(&ready.encode()).unwrap();
        }
    }

    #[test]
    fn a_feed_of_other_terms_costs_a_collector_its_place_only_if_it_has_no_other_feed() {
        let secret = key(5);
        let two = two_feeds([None, None, Some(secret.public())]);
        for (roster, seat, seats) in [(two, 1, 3)] {
            let digest = roster.feeds.last().expect("a feed").digest();
            let ready = |terms_digest| {
                let (slot, price) = (seat, 1.0);
                let ready = Ready {
                    terms_digest,
                    slot,
                    price,
                };
                ready.encode()
            };
            let keys = (0..seats).map(|at| (at + 1 == seats).then(|| secret.public()));
            let mut rig = Rig::of(roster, &keys.collect::<Vec<_>>());
            let mut peer = rig.hello(5, 9);
            peer.write_all(&[ready([7; 32]), ready(digest)].concat())
                .unwrap();
            while rig.refused.is_empty() {
                rig.sweep();
            }
            assert_eq!(rig.refused, Refused::from([(Reject::TermsDiffer, 1)]));
            let member = &rig.slots[seats - 1].members[0];
            assert!(member.strays && member.first_prices.last() == Some(&Some(1.0)));
            let lines = odd_lines(&mut rig.slots).join("\n");
            assert!(
                lines.contains("its roster's terms are 0707070707070707, "),
                "{lines}"
            );
            assert!(odd_lines(&mut rig.slots).is_empty(), "it is said once");
            // Another one has nothing but other terms.
            let mut peer = rig.hello(5, 9);
            peer.write_all(&ready([7; 32])).unwrap();
            let refusal = loop {
                rig.sweep();
                let mut bytes = [0; Ping::BYTES + Refusal::BYTES];
                if peer
                    .peek(&mut bytes)
                    .is_ok_and(|count| count == bytes.len())
                {
                    break bytes;
                }
            };
            let refusal = *refusal.last_chunk().expect("a refusal");
            assert_eq!(
                Refusal::decode(&refusal).unwrap().reason,
                Reject::TermsDiffer
            );
        }
    }

    #[test]
    fn a_hello_counts_if_its_key_is_known_and_it_is_meant_for_this_aggregator() {
        let mut rig = Rig::new();
        for (seed, aggregator, reason) in
            [(7, 9, Reject::KeyUnknown), (0, 8, Reject::HelloSignature)]
        {
            let mut peer = rig.hello(seed, aggregator);
            let refusal = Refusal::decode(&rig.read(&mut peer)).unwrap();
            assert_eq!(refusal.reason, reason);
        }
        let mut peer = rig.hello(1, 9);
        Ping::decode(&rig.read(&mut peer)).unwrap();
        assert!(rig.slots[0].members.is_empty() && rig.slots[1].members.len() == 1);
    }

    #[test]
    fn a_third_connection_of_a_key_displaces_the_one_that_is_silent_longest() {
        let mut rig = Rig::new();
        let mut peers: Vec<TcpStream> = Vec::new();
        for _ in 0..2 {
            let mut peer = rig.hello(0, 9);
            Ping::decode(&rig.read(&mut peer)).unwrap();
            peers.push(peer);
        }
        rig.ready(&mut peers[0], 0, [0; 32]);
        while !rig.slots[0].ready() {
            rig.sweep();
        }
        let mut third = rig.hello(0, 9);
        let refusal = Refusal::decode(&rig.read(&mut peers[1])).unwrap();
        assert_eq!(refusal.reason, Reject::Displaced);
        Ping::decode(&rig.read(&mut third)).unwrap();
        assert!(rig.slots[0].members.len() == 2 && rig.slots[0].ready());
        assert_eq!(rig.refused, Refused::from([(Reject::Displaced, 1)]));
    }

    #[test]
    fn who_is_ready_says_its_slot_and_terms_that_are_known_here() {
        let mut rig = Rig::new();
        let known = rig.agreed.newest().unwrap().digests[0];
        for (slot, digest, reason) in [
            (1, known, Reject::SlotDiffers),
            (0, [7; 32], Reject::TermsDiffer),
        ] {
            let mut peer = rig.hello(0, 9);
            Ping::decode(&rig.read(&mut peer)).unwrap();
            rig.ready(&mut peer, slot, digest);
            let refusal = Refusal::decode(&rig.read(&mut peer)).unwrap();
            assert_eq!(refusal.reason, reason);
        }
        let ours = hex(&known[..8]);
        let remark = format!("its roster's terms are 0707070707070707, this aggregator's {ours}");
        assert!(
            rig.slots[0].remark.ends_with(&remark),
            "{}",
            rig.slots[0].remark
        );
    }

    #[test]
    fn samples_stay_when_their_connection_ends() {
        let mut rig = Rig::new();
        let mut peer = rig.hello(0, 9);
        Ping::decode(&rig.read(&mut peer)).unwrap();
        let sample = Sample {
            tag: tag(&rig.agreed.newest().unwrap().digests[0]),
            start_us: 0,
            record: rsoracle_proof::record::Record {
                index: 0,
                price: Ok(100.0),
                lateness_us: Some(3),
                age_us: None,
            },
        };
        peer.write_all(&sample.encode()).unwrap();
        drop(peer);
        while !rig.slots[0].members.is_empty() {
            rig.sweep();
        }
        assert_eq!(rig.slots[0].records(0, 0), [sample.record]);
        assert_eq!(rig.slots[0].remark, "its control connection ended");
    }

    #[test]
    fn a_collector_is_ready_feed_by_feed_by_its_seat_and_for_all_of_them_before_there_are_terms() {
        let keys = [0, 1, 2].map(|seed| Some(key(seed).public()));
        let mut rig = Rig::of(two_feeds(keys), &keys);
        let digests = rig.agreed.newest().unwrap().digests.clone();
        // Slot 2 has seat 1 in the second feed, which slot 1 does not price.
        let mut peer = rig.hello(2, 9);
        Ping::decode(&rig.read(&mut peer)).unwrap();
        for (feed, seat) in [(1, 1), (0, 2)] {
            assert!(!rig.slots[2].ready());
            rig.ready(&mut peer, seat, digests[feed]);
            while !rig.slots[2].ready_for(feed) {
                rig.sweep();
            }
        }
        assert!(rig.slots[2].ready());
        let mut peer = rig.hello(0, 9);
        Ping::decode(&rig.read(&mut peer)).unwrap();
        rig.ready(&mut peer, 0, [0; 32]);
        while !rig.slots[0].ready() {
            rig.sweep();
        }
        for (seat, digest) in [(2, digests[1]), (1, [0; 32])] {
            let mut peer = rig.hello(2, 9);
            Ping::decode(&rig.read(&mut peer)).unwrap();
            rig.ready(&mut peer, seat, digest);
            let refusal = Refusal::decode(&rig.read(&mut peer)).unwrap();
            assert_eq!(refusal.reason, Reject::SlotDiffers);
        }
        let mut peer = rig.hello(1, 9);
        Ping::decode(&rig.read(&mut peer)).unwrap();
        let mut sample = Sample {
            tag: tag(&digests[1]),
            start_us: 0,
            record: rsoracle_proof::record::Record {
                index: 0,
                price: Ok(100.0),
                lateness_us: Some(3),
                age_us: None,
            },
        };
        peer.write_all(&sample.encode()).unwrap();
        sample.tag = tag(&digests[0]);
        peer.write_all(&sample.encode()).unwrap();
        while rig.slots[1].records(0, 0).is_empty() {
            rig.sweep();
        }
        assert_eq!(rig.slots[1].records(0, 1), []);
        let differs = rig.refused.get(&Reject::SlotDiffers);
        assert_eq!(
            differs,
            Some(&3),
            "a sample of a feed that it does not price"
        );
    }
}
