//! The server's side of each exchange that streams prices. One file per exchange.
//!
//! A [`ServerDialect`] is a table of texts, functions and periods; `stream` does what all of them have in common. Invariant: the
//! functions are pure, and total on any text from a client. They were written from the exchanges' documents alone,
//! independently of the parsers in `exchange`, so that a misunderstanding there is not repeated here and so hidden.
//! A connection has at most one subscription to each channel of each market that is served, so their number is bounded;
//! a dialect whose exchange allows fewer says so.
//! Not supported: channels that no collector uses, and unsubscribing.

pub mod binance;
pub mod bitfinex;
pub mod bitstamp;
pub mod bybit;
pub mod coinbase;
pub mod crypto_com;
pub mod gemini;
pub mod kraken;
pub mod okx;

use super::quote::MarketData;
use crate::exchange::json::Json;
use crate::source::recorded::QUOTES;
use crate::source::{KINDS, Spelling};
use std::rc::Rc;
use std::time::Instant;

/// A base that the built-in tape does not play, so that nobody subscribes to it beside others: for the fault `wrong-symbol`.
const STRANGER: &str = "XMR";

/// All dialects.
pub static STREAMS: [&ServerDialect; 9] = [
    &binance::STREAM,
    &coinbase::STREAM,
    &kraken::STREAM,
    &bitstamp::STREAM,
    &bitfinex::STREAM,
    &gemini::STREAM,
    &crypto_com::STREAM,
    &okx::STREAM,
    &bybit::STREAM,
];

/// How one exchange speaks to its clients.
pub struct ServerDialect {
    /// Name of its kind of source, such as `kraken`; also its path on the server.
    pub name: &'static str,
    /// The channels that a client can subscribe to, and what each carries.
    pub channels: &'static [(&'static str, ChannelKind)],
    /// Reads a client's message, and puts subscriptions and answers on the desk.
    pub hear: fn(&str, &mut Desk),
    /// Writes a price message.
    pub price: fn(&MarketData) -> String,
    /// Minimum number of decimals of a price.
    pub decimals_min: usize,
    /// The message sent on connecting. With `false` it announces maintenance, and is then also sent in place of a price.
    pub welcome: Option<fn(online: bool) -> String>,
    /// Its heartbeats.
    pub beat: Beat,
    /// The notice that this connection will end. `now_ms` is in milliseconds since the Unix epoch.
    pub notice: Option<fn(now_ms: u64) -> String>,
    /// Seconds between two ping frames. The timeout of a pong is three times this. `None`: no ping frames.
    pub ping_s: Option<u64>,
    /// Seconds after which a silent client is disconnected; `None`: never.
    pub idle_s: Option<u64>,
    /// Seconds after which a client without a subscription is disconnected; `None`: never.
    pub subscribe_s: Option<u64>,
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Each price of the tape once.
    Trades,
    /// The current state of the market, which may be sent repeatedly.
    Quotes,
    /// Heartbeats only.
    Heartbeats,
}

/// How an exchange shows on an idle connection that it is alive.
pub enum Beat {
    /// It sends no messages for that.
    None,
    /// It sends a symbol's quotes again after this many seconds without a price of that symbol.
    Again(u64),
    /// After this many seconds without any message, it sends this message to all that have subscribed to anything.
    Quiet(u64, fn() -> String),
    /// After this many seconds without a message on a channel, it sends this message for that subscription.
    Still(u64, fn(&MarketData) -> String),
    /// Every this many seconds, it sends this message for each subscription to heartbeats.
    Steady(u64, fn(&MarketData) -> String),
    /// Every this many seconds, it sends this message, which the client must answer, to all that have subscribed to anything.
    Asks(u64, fn(now_ms: u64) -> String),
}

/// One client's subscriptions, and the messages that wait to be sent to it.
pub struct Desk {
    spelling: Spelling,
    bases: Rc<[String]>,
    /// The bases whose symbols are refused as unknown, for the fault `refuse`.
    pub refused: Vec<String>,
    channels: &'static [(&'static str, ChannelKind)],
    /// The subscriptions, without duplicates.
    pub subscriptions: Vec<Subscription>,
    /// Whether the client asked for a time in every message.
    pub stamps: bool,
    /// The messages that wait to be sent.
    pub said: Vec<String>,
    /// The exchange's time, in microseconds since the Unix epoch.
    pub now_us: u64,
}

/// A subscription to one channel of one market.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The channel's name.
    pub channel: &'static str,
    /// What it carries.
    pub kind: ChannelKind,
    /// The number of the part of the tape that prices it.
    pub part: usize,
    /// The market, as the dialect spells it.
    pub symbol: String,
    /// Another market, for the fault `wrong-symbol`.
    pub other: String,
    /// The number of the tape's trade that was sent last.
    pub told: Option<u64>,
    /// When the last message on it was sent, or it was first served.
    pub quiet_since: Option<Instant>,
}

impl Desk {
    /// Serves these bases, for each of [`QUOTES`].
    pub fn new(dialect: &ServerDialect, bases: Rc<[String]>) -> Desk {
        let kind = KINDS.iter().find(|kind| kind.name == dialect.name);
        Desk {
            spelling: kind.expect("a dialect has the name of a kind").spelling,
            bases,
            refused: Vec::new(),
            channels: dialect.channels,
            subscriptions: Vec::new(),
            stamps: false,
            said: Vec::new(),
            now_us: 0,
        }
    }

    /// The part and the quote currency of a symbol that is served.
    fn market(&self, symbol: &str) -> Option<(usize, &'static str)> {
        let served = |(_, base): &(usize, &String)| !self.refused.contains(base);
        let bases = self.bases.iter().enumerate().filter(served);
        let mut markets = bases.flat_map(|(part, base)| QUOTES.map(|quote| (part, base, quote)));
        let found = markets.find(|(_, base, quote)| self.spelling.of(base, quote) == symbol);
        found.map(|(part, _, quote)| (part, quote))
    }

    /// Adds a message to send.
    pub fn say(&mut self, text: impl Into<String>) {
        self.said.push(text.into());
    }

    /// Whether this channel exists and this market is served.
    pub(crate) fn sells(&self, channel: &str, symbol: &str) -> bool {
        self.channels.iter().any(|(name, _)| *name == channel) && self.market(symbol).is_some()
    }

    /// Subscribes and returns the index of the subscription, which may already exist; `None` if there is no such channel or
    /// market.
    pub fn subscribe(&mut self, channel: &str, symbol: &str) -> Option<usize> {
        let (channel, kind) = *self.channels.iter().find(|(name, _)| *name == channel)?;
        let (part, quote) = self.market(symbol)?;
        let same = |old: &Subscription| old.channel == channel && old.symbol == symbol;
        let place = self.subscriptions.iter().position(same);
        Some(place.unwrap_or_else(|| {
            self.subscriptions.push(Subscription {
                channel,
                kind,
                part,
                symbol: symbol.to_owned(),
                other: self.spelling.of(STRANGER, quote),
                told: None,
                quiet_since: None,
            });
            self.subscriptions.len() - 1
        }))
    }
}

/// The texts of a list of strings; `None` if it is not a list, or contains anything else.
fn texts(list: Option<Json>) -> Option<Vec<String>> {
    list?.items()?.map(Json::owned).collect()
}

/// A member of a client's message, to be sent back unchanged: `,"req_id":1`; empty if the client did not send it.
fn echoed(json: Json, name: &str) -> String {
    let value = json.get(name);
    value.map_or(String::new(), |value| {
        format!(",\"{name}\":{}", value.raw())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::json;

    /// What makes each dialect say something, its subscription first.
    const TEXTS: [&[&str]; 9] = [
        &[r#"{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@bookTicker"],"id":1}"#],
        &[
            r#"{"type":"subscribe","product_ids":["BTC-USD"],"channels":["ticker",{"name":"heartbeat"}]}"#,
        ],
        &[
            r#"{"method":"subscribe","params":{"channel":"ticker","symbol":["BTC/USD","X"],"event_trigger":"bbo"},"req_id":1}"#,
            r#"{"method":"ping","req_id":101}"#,
        ],
        &[
            r#"{"event":"bts:subscribe","data":{"channel":"order_book_btcusd"}}"#,
            r#"{"event":"bts:heartbeat"}"#,
        ],
        &[
            r#"{"event":"subscribe","channel":"ticker","symbol":"tBTCUSD"}"#,
            r#"{"event":"ping","cid":1}"#,
        ],
        &[
            r#"{"id":"1","method":"subscribe","params":["btcusd@bookTicker","btcusd@trade"]}"#,
            r#"{"id":2,"method":"ping"}"#,
        ],
        &[
            r#"{"id":1,"method":"subscribe","params":{"channels":["ticker.BTC_USD"]}}"#,
            r#"{"id":2,"method":"public/get-book"}"#,
        ],
        &[r#"{"op":"subscribe","args":[{"channel":"tickers","instId":"BTC-USDT"}]}"#],
        &[
            r#"{"req_id":"1","op":"subscribe","args":["orderbook.1.BTCUSDT","tickers.BTCUSDT"]}"#,
            r#"{"op":"ping"}"#,
        ],
    ];

    fn desk(dialect: &ServerDialect, bases: &[&str]) -> Desk {
        Desk::new(
            dialect,
            bases.iter().map(|base| (*base).to_owned()).collect(),
        )
    }

    /// What a desk that has just been opened says to this text.
    fn told(dialect: &ServerDialect, text: &str) -> Desk {
        let mut desk = desk(dialect, &["BTC"]);
        (dialect.hear)(text, &mut desk);
        assert!(!desk.said.is_empty(), "{}: {text}", dialect.name);
        for said in &desk.said {
            let plain = (text, said.as_str()) == ("ping", "pong");
            assert!(plain || json::check(said).is_ok(), "{text}: {said}");
        }
        desk
    }

    #[test]
    fn every_text_is_answered_in_json_without_a_panic() {
        let mut seed = 0x5eed_1234_9abc_def1u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 16) as usize
        };
        for (dialect, texts) in STREAMS.into_iter().zip(TEXTS) {
            assert!(
                !told(dialect, texts[0]).subscriptions.is_empty(),
                "{}",
                dialect.name
            );
            told(dialect, "ping");
            for text in texts {
                for end in 0..text.len() {
                    told(dialect, &text[..end]);
                }
                for _ in 0..5_000 {
                    let mut bytes = text.as_bytes().to_vec();
                    for _ in 0..1 + next() % 4 {
                        let at = next() % bytes.len();
                        bytes[at] = br#"{}[]",:\u0019eE+-._@/ntfB a"#[next() % 27];
                    }
                    let text = String::from_utf8(bytes).expect("it is ASCII");
                    assert!(told(dialect, &text).subscriptions.len() <= 3);
                }
            }
        }
    }

    /// Found by fuzzing: two dialects had no word for a list that is empty.
    #[test]
    fn a_subscription_to_nothing_is_answered() {
        for (dialect, text) in STREAMS.into_iter().zip([
            r#"{"method":"SUBSCRIBE","params":[],"id":1}"#,
            r#"{"type":"subscribe","product_ids":[],"channels":[]}"#,
            r#"{"method":"subscribe","params":{"channel":"ticker","symbol":[]}}"#,
            r#"{"event":"bts:subscribe","data":{}}"#,
            r#"{"event":"subscribe"}"#,
            r#"{"method":"subscribe","params":[]}"#,
            r#"{"method":"subscribe","params":{"channels":[]}}"#,
            r#"{"op":"subscribe","args":[]}"#,
            r#"{"op":"subscribe","args":[]}"#,
        ]) {
            assert!(told(dialect, text).subscriptions.is_empty());
        }
    }

    #[test]
    fn subscribing_again_changes_nothing() {
        for (dialect, texts) in STREAMS.into_iter().zip(TEXTS) {
            let mut desk = told(dialect, texts[0]);
            let before = desk.subscriptions.len();
            (dialect.hear)(texts[0], &mut desk);
            assert_eq!(desk.subscriptions.len(), before);
        }
    }

    #[test]
    fn other_bases_are_served_in_each_exchanges_spelling() {
        for (place, dialect, symbol, other) in [
            (0, &kraken::STREAM, "ETH/USD", "XMR/USD"),
            (1, &bitfinex::STREAM, "tDOGE:USD", "tXMRUSD"),
            (2, &okx::STREAM, "BTC-USDT", "XMR-USDT"),
        ] {
            let mut desk = desk(dialect, &["ETH", "DOGE", "BTC"]);
            let channel = dialect.channels[0].0;
            assert_eq!(desk.subscribe(channel, symbol), Some(0), "{symbol}");
            let sub = &desk.subscriptions[0];
            assert_eq!((sub.part, sub.other.as_str()), (place, other));
            desk.refused = vec!["BTC".into(), "DOGE".into(), "ETH".into()];
            assert_eq!(desk.subscribe(channel, symbol), None, "{symbol}");
        }
    }
}
