//! The aggregator's end of the data channel: preambles and observations.
//!
//! Invariant: a connection has no effect until an observation on it verifies under the key that it named. So naming another
//! collector's key does that collector no harm. A connection costs a frame of buffer for each feed, and in each sweep at most one
//! vain signature check for each control connection of the slot. A connection with a refused frame is closed.

use super::agreed::Agreed;
use super::control::Member;
use super::{Slot, count};
use crate::aggregator::limits::*;
use crate::system::inbox::Inbox;
use crate::system::now::wall_us;
use crate::wire::{DataFrame, Preamble};
use rsoracle_proof::reason::Reject;
use rsoracle_proof::record::Record;
use rsoracle_proof::report::Refused;
use rsoracle_proof::round::Round;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// One connection on the data port.
struct Sender {
    inbox: Inbox<{ DataFrame::BYTES }>,
    ip: IpAddr,
    /// When it was accepted, or brought an answer last.
    since: Instant,
    /// The slot whose key its preamble named.
    slot: Option<u16>,
    /// The answers that wait for their samples, at most one for each feed; and with the samples of how many connections each of
    /// them was tried in vain.
    waiting: Vec<(DataFrame, usize)>,
}

/// What answers are judged by.
struct Bench<'a> {
    slots: &'a [Slot],
    agreed: &'a Agreed,
    /// The running rounds, feed by feed; empty between rounds.
    rounds: &'a mut [Round],
    floor_us: u64,
    /// Whether any round has begun.
    begun: bool,
    refused: &'a mut Refused,
    misfits: &'a mut Misfits,
}

/// Answers under slots' keys that were refused in a round as those by other terms would be: for each slot and feed, why.
pub(crate) type Misfits = BTreeMap<(u16, usize), Reject>;

/// The listening socket, and the connections on it.
pub struct DataChannel {
    listener: TcpListener,
    /// Oldest first.
    senders: Vec<Sender>,
    /// Those of this round.
    misfits: Misfits,
    /// Whether any round has begun. Earlier answers are to rounds that this aggregator does not gather.
    begun: bool,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl DataChannel {
    /// Takes over a non-blocking listener.
    pub fn new((listener, address): (TcpListener, SocketAddr)) -> DataChannel {
        DataChannel {
            listener,
            senders: Vec::new(),
            misfits: BTreeMap::new(),
            begun: false,
            address,
        }
    }

    /// Polls every connection once, and accepts new ones last, so that they displace none that has just sent something. Answers
    /// to rounds that start before `floor_us` are over. Returns whether anything happened, or connections are open that have
    /// named no slot yet.
    pub fn sweep(
        &mut self,
        slots: &[Slot],
        agreed: &Agreed,
        rounds: &mut [Round],
        floor_us: u64,
        refused: &mut Refused,
    ) -> bool {
        let mut stirred = false;
        self.begun |= !rounds.is_empty();
        let mut bench = Bench {
            slots,
            agreed,
            rounds,
            floor_us,
            begun: self.begun,
            refused,
            misfits: &mut self.misfits,
        };
        self.senders.retain_mut(|sender| {
            let heard = sender.hear(&mut bench);
            let stays = keep(heard, bench.refused);
            let waits = !sender.waiting.is_empty() || !sender.inbox.bytes().is_empty();
            stirred |= !stays || sender.slot.is_none() || waits;
            stays
        });
        for _ in 0..ACCEPTS_PER_SWEEP {
            let Ok((tcp, from)) = self.listener.accept() else {
                return stirred;
            };
            stirred = true;
            let Ok(inbox) = Inbox::new(tcp) else { continue };
            if self.senders.len() >= slots.len() + STRANGERS_MAX {
                displace(&mut self.senders);
                count(bench.refused, Reject::Crowded);
            }
            let mut sender = Sender {
                inbox,
                ip: from.ip(),
                since: Instant::now(),
                slot: None,
                waiting: Vec::new(),
            };
            let heard = sender.hear(&mut bench);
            if keep(heard, bench.refused) {
                self.senders.push(sender);
            }
        }
        stirred
    }

    /// The rounds that start at `start_us` are over: closes connections with answers whose samples did not come, and counts them.
    /// Returns which slots' answers were refused, and why. (Anybody may have sent them, so this may explain a silence and
    /// proves nothing.)
    pub(crate) fn close_round(&mut self, start_us: u64, refused: &mut Refused) -> Misfits {
        self.senders.retain(|sender| {
            let waiting = sender.waiting.iter();
            let vain = waiting.filter(|(frame, _)| frame.start_us <= start_us);
            let reasons = vain.map(|(_, tried)| match tried {
                0 => Reject::SamplesMissing,
                _ => Reject::Signature,
            });
            reasons.map(|reason| count(refused, reason)).count() == 0
        });
        std::mem::take(&mut self.misfits)
    }
}

/// Makes room by closing one connection. The largest group loses one: either the connections that have named no slot yet lose
/// their oldest, or the connections that name one slot from one address lose their newest. So a crowd displaces its own
/// connections, also if collectors connect after it.
fn displace(senders: &mut Vec<Sender>) {
    let group = |sender: &Sender| Some((sender.slot?, sender.ip));
    let mut held: BTreeMap<_, usize> = BTreeMap::new();
    for group in senders.iter().filter_map(group) {
        *held.entry(group).or_default() += 1;
    }
    let most = held.values().copied().max().unwrap_or(0);
    let nameless = |sender: &Sender| sender.slot.is_none();
    let crowded = |sender: &Sender| group(sender).is_some_and(|group| held[&group] == most);
    let nameless_many = senders.iter().filter(|s| nameless(s)).count() >= most;
    let at = if nameless_many {
        senders.iter().position(nameless)
    } else {
        senders.iter().rposition(crowded)
    };
    if let Some(at) = at {
        senders.remove(at);
    }
}

/// Whether a connection stays. If it does not, and there is a reason, counts the reason.
fn keep(heard: Result<(), Option<Reject>>, refused: &mut Refused) -> bool {
    if let Err(Some(reason)) = heard {
        count(refused, reason);
    }
    heard.is_ok()
}

impl Sender {
    /// Reads what has arrived. An error ends the connection: for a reason, or without one if the other side ended it.
    fn hear(&mut self, bench: &mut Bench) -> Result<(), Option<Reject>> {
        self.inbox.fill();
        let Some(slot) = self.slot else {
            let Some(bytes) = self.inbox.peek() else {
                return self.waits(HELLO_MS_MAX, self.since, Reject::HelloLate);
            };
            let named = Preamble::decode(&bytes)?.key;
            let is_of = |slot: &Slot| slot.key.is_some_and(|key| *key.bytes() == named);
            let slot = bench.slots.iter().position(is_of);
            self.slot = Some(slot.ok_or(Reject::KeyUnknown)? as u16);
            self.inbox.consume(Preamble::BYTES);
            return self.hear(bench);
        };
        self.judge(slot, bench)?;
        if !self.waiting.is_empty() || self.inbox.bytes().len() >= DataFrame::BYTES {
            return Ok(());
        }
        // No collector uses it any more: the collector's host, or a box between, has forgotten it.
        let idle = self.since.elapsed() > Duration::from_millis(2 * DATA_IDLE_MS_MAX);
        if idle && self.inbox.begun().is_none() {
            return Err(None);
        }
        let begun = self.inbox.begun().unwrap_or_else(Instant::now);
        self.waits(FRAME_MS_MAX, begun, Reject::FrameLate)
    }

    /// Judges the answers that wait, then those that have arrived since, up to one for each feed. After one that is tried in
    /// vain, the others wait for the next sweep.
    fn judge(&mut self, place: u16, bench: &mut Bench) -> Result<(), Reject> {
        let slot = &bench.slots[usize::from(place)];
        let feeds = slot.seats.len();
        let (mut at, mut read) = (0, 0);
        loop {
            if at == self.waiting.len() {
                let next = self.inbox.peek().filter(|_| at < feeds && read < feeds);
                let Some(bytes) = next else { return Ok(()) };
                self.waiting.push((DataFrame::decode(&bytes), 0));
                self.inbox.consume(DataFrame::BYTES);
                self.inbox.fill();
                read += 1;
            }
            let (frame, tried) = &mut self.waiting[at];
            let before = *tried;
            let judged = bench.judge(slot, frame, tried);
            let vain = *tried > before && judged == Ok(false);
            // Behind it may stand answers of other feeds: a collector that connects again sends all of a start.
            let again = judged == Err(Reject::Duplicate) && feeds > 1;
            // Of a feed that only the collector has, or has by other terms.
            let stray = judged == Err(Reject::TermsDiffer) && feeds > 1;
            if let Err(reason) = judged {
                if again || stray {
                    count(bench.refused, reason);
                } else {
                    bench.note(place, frame, reason);
                }
            }
            if again || stray || judged? {
                self.waiting.remove(at);
                self.since = Instant::now();
            } else {
                at += 1;
            }
            if vain {
                return Ok(());
            }
        }
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

impl Bench<'_> {
    /// Notes an answer of the slot at a place in the roster that may have been made by other terms.
    fn note(&mut self, place: u16, frame: &DataFrame, reason: Reject) {
        let by_other_terms = [
            Reject::TermsDiffer,
            Reject::Signature,
            Reject::AverageDiffers,
        ];
        if by_other_terms.contains(&reason) {
            // A tag that no feed has is noted only where there is a single feed.
            let named = self.agreed.named(&frame.tag, frame.start_us, self.floor_us);
            let feed = named.map_or(0, |(_, feed)| feed);
            self.misfits.insert((place, feed), reason);
        }
    }

    /// Judges an answer of the collector in a slot. Returns false if it has to wait.
    fn judge(&mut self, slot: &Slot, frame: &DataFrame, tried: &mut usize) -> Result<bool, Reject> {
        let (start_us, floor_us) = (frame.start_us, self.floor_us);
        let (_, feed) = self.agreed.named(&frame.tag, start_us, floor_us)?;
        let seat = slot.seats[feed].ok_or(Reject::SlotDiffers)?;
        match self.rounds.get_mut(feed) {
            Some(round) if round.start_us == start_us => {
                observe(round, (feed, seat), slot, frame, tried)
            }
            _ if start_us > wall_us() + AHEAD_US_MAX => Err(Reject::TooEarly),
            // Before the first round, answers are to rounds that this aggregator does not gather.
            _ => Ok(!self.begun && start_us <= wall_us()),
        }
    }
}

/// Tries an answer with the samples of each of the slot's control connections. Returns false if it has to wait: one of them may
/// still bring the samples that it was signed over. `tried` counts those that it does not fit, which are not tried again.
fn observe(
    round: &mut Round,
    (feed, seat): (usize, u16),
    slot: &Slot,
    frame: &DataFrame,
    tried: &mut usize,
) -> Result<bool, Reject> {
    let (start_us, samples) = (frame.start_us, round.terms.schedule.samples as usize);
    let is_whole = |records: &&[Record]| records.len() == samples;
    let whole = slot.tracks(start_us, feed).filter(is_whole).count();
    if whole > *tried {
        *tried = whole;
        for records in slot.tracks(start_us, feed).filter(is_whole) {
            match round.observe(seat, records, &frame.observation) {
                Err(Reject::Signature) => {}
                observed => return observed.map(|()| true),
            }
        }
    }
    let more_may_come = |member: &Member| member.tracks.at(start_us, feed).len() < samples;
    if whole == 0 || slot.members.iter().any(more_may_come) {
        Ok(false)
    } else {
        Err(Reject::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::agreed::tests::{terms, two_feeds};
    use crate::aggregator::setup::listen;
    use crate::aggregator::tracks::Track;
    use crate::keys::secret::SecretKey;
    use rsoracle_proof::record::{Answer, Observation};
    use rsoracle_proof::seal::{ObservationContext, observation_bytes, samples_digest};
    use rsoracle_proof::terms::{Roster, tag};
    use std::io::Write;
    use std::net::TcpStream;

    #[test]
    fn a_crowd_displaces_its_own_connections_also_if_others_connect_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let sender = |slot, address: &str| {
            let to = listener.local_addr().expect("an address");
            let tcp = std::net::TcpStream::connect(to).expect("it connects");
            Sender {
                inbox: Inbox::new(tcp).expect("an inbox"),
                ip: address.parse().expect("an address"),
                since: Instant::now(),
                slot,
                waiting: Vec::new(),
            }
        };
        let mut senders = vec![
            sender(Some(0), "192.0.2.66"),
            sender(Some(1), "192.0.2.66"),
            sender(Some(0), "192.0.2.66"),
            sender(Some(1), "192.0.2.1"),
            sender(Some(0), "192.0.2.7"),
        ];
        displace(&mut senders);
        let left = senders
            .iter()
            .map(|sender| (sender.slot, sender.ip.to_string()));
        let left: Vec<_> = left.collect();
        assert_eq!(left.len(), 4);
        assert_eq!(
            left[2..],
            [(Some(1), "192.0.2.1".into()), (Some(0), "192.0.2.7".into())]
        );
        // Of those that name nobody, if they are as many, the oldest goes.
        senders.extend([sender(None, "192.0.2.3")]);
        displace(&mut senders);
        assert_eq!(senders.len(), 4);
        assert!(senders.iter().all(|sender| sender.slot.is_some()));
    }

    fn record(index: u32, price: f64) -> Record {
        Record {
            index,
            price: Ok(price),
            lateness_us: Some(3),
            age_us: None,
        }
    }

    /// The answer of a seat that these records of the price 100 make.
    fn answer(key: &SecretKey, round: &Round, slot: u16, records: &[Record]) -> DataFrame {
        let context = ObservationContext {
            terms_digest: &round.digest,
            slot,
            start_us: 0,
            samples_digest: &samples_digest(records),
        };
        let last_us = records.len() as u64 - 1;
        let (answer, timestamp_us) = (Answer::Price(100.0), last_us * 1_000_000 + 3);
        let bytes = observation_bytes(&context, answer.to_bits(), timestamp_us);
        let observation = Observation {
            answer,
            timestamp_us,
            signature: key.sign(&bytes),
        };
        DataFrame {
            tag: tag(&round.digest),
            start_us: 0,
            observation: observation.encode(),
        }
    }

    #[test]
    fn an_answer_waits_for_the_samples_that_it_was_signed_over() {
        let key = SecretKey::from_seed(&mut [1; 32]);
        let mut terms = terms(&["kraken:BTC/USD"], 0, 2);
        terms.seats[0].key = Some(key.public());
        let mut round = Round::new(terms, 0);
        let records = |price| [0, 1].map(|index| record(index, price));
        let frame = answer(&key, &round, 0, &records(100.0));
        let roster = Roster::single(1, None, round.terms.clone());
        let mut slot = Slot::all(&roster, &[Some(key.public())]).remove(0);
        let mut observed = |records: &[Record]| {
            slot.left = Track {
                start_us: 0,
                records: vec![records.to_vec()],
            };
            observe(&mut round, (0, 0), &slot, &frame, &mut 0)
        };
        assert_eq!(observed(&records(100.0)[..1]), Ok(false));
        assert_eq!(observed(&records(101.0)), Err(Reject::Signature));
        assert_eq!(observed(&records(100.0)), Ok(true));
        assert_eq!(observed(&records(100.0)), Err(Reject::Duplicate));
    }

    #[test]
    fn answers_of_all_feeds_that_come_again_cost_one_sweep() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listening = listen(any, "data", "data-port", false).expect("a free port");
        let mut channel = DataChannel::new(listening);
        let secret = SecretKey::from_seed(&mut [1; 32]);
        let key = secret.public();
        let roster = two_feeds([None, None, Some(key)]);
        let mut slots = Slot::all(&roster, &[None, None, Some(key)]);
        let samples = vec![record(0, 100.0)];
        slots[2].left = Track {
            start_us: 0,
            records: vec![samples.clone(); 2],
        };
        let rounds = roster.feeds.iter().cloned();
        let mut rounds: Vec<Round> = rounds.map(|terms| Round::new(terms, 0)).collect();
        let seats = [2, 1].iter().zip(&rounds);
        let frames = seats.map(|(seat, round)| answer(&secret, round, *seat, &samples).encode());
        let frames: Vec<u8> = frames.flatten().collect();
        let mut agreed = Agreed::default();
        agreed.add(roster, 0);
        let mut peer = TcpStream::connect(channel.address).expect("it connects");
        let preamble = Preamble { key: *key.bytes() }.encode();
        let stray = [7; DataFrame::BYTES];
        peer.write_all(&[&preamble[..], &frames, &frames, &stray].concat())
            .expect("they fit");
        // All four are read in at most two sweeps, of which each takes two.
        let mut refused = Refused::new();
        while refused.is_empty() {
            channel.sweep(&slots, &agreed, &mut rounds, 0, &mut refused);
        }
        assert_eq!(refused, Refused::from([(Reject::Duplicate, 2)]));
        // One of a feed that only the collector has costs the others nothing either.
        while refused.len() < 2 {
            channel.sweep(&slots, &agreed, &mut rounds, 0, &mut refused);
        }
        assert_eq!(refused[&Reject::TermsDiffer], 1);
        assert_eq!(channel.senders.len(), 1);
    }

    #[test]
    fn a_connection_holds_as_many_waiting_answers_as_there_are_feeds() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let listening = listen(any, "data", "data-port", false).expect("a free port");
        let mut channel = DataChannel::new(listening);
        let key = SecretKey::from_seed(&mut [1; 32]).public();
        let roster = two_feeds([None, None, Some(key)]);
        let slots = Slot::all(&roster, &[None, None, Some(key)]);
        let rounds = roster.feeds.iter().cloned();
        let mut rounds: Vec<Round> = rounds.map(|terms| Round::new(terms, 0)).collect();
        let frame = |feed: usize| DataFrame {
            tag: tag(&rounds[feed].digest),
            start_us: 0,
            observation: [0; Observation::BYTES],
        };
        let frames: Vec<_> = [0, 0, 1, 1].iter().map(|feed| frame(*feed)).collect();
        let mut agreed = Agreed::default();
        agreed.add(roster, 0);
        let mut peer = TcpStream::connect(channel.address).expect("it connects");
        let mut bytes = Preamble { key: *key.bytes() }.encode().to_vec();
        bytes.extend(frames.iter().flat_map(DataFrame::encode));
        peer.write_all(&bytes).expect("they fit");
        let mut refused = Refused::new();
        for _ in 0..1_000 {
            channel.sweep(&slots, &agreed, &mut rounds, 0, &mut refused);
            let [sender] = channel.senders.as_slice() else {
                continue;
            };
            let waiting: Vec<_> = sender.waiting.iter().map(|(frame, _)| *frame).collect();
            assert!(frames[..2].starts_with(&waiting), "{waiting:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
        channel.close_round(0, &mut refused);
        assert_eq!(refused, Refused::from([(Reject::SamplesMissing, 2)]));
        assert!(channel.senders.is_empty());
    }
}
