//! Runs published recordings of real exchanges through the parsers. The recordings are not part of the project:
//! RSORACLE_RECORDED names their directory (`.ci/run` looks for it in a usual place).
//!
//! The expected prices were found without our parsers, by the Python program in this file. No recording has Kraken's ticker,
//! and none of Coinbase's tickers is of BTC-USD.

use rsoracle::exchange::json::{Json, Spans};
use rsoracle::exchange::{DIALECTS, Dialect, Said, Topics};
use rsoracle_proof::price::is_price;
use rsoracle_proof::reason::Miss;
use std::path::PathBuf;

/// A recording, and how many of its messages have no price.
struct Recording {
    /// The beginning of the file's name.
    file: &'static str,
    /// The exchange whose parser reads it.
    dialect: &'static str,
    /// Number of messages that the exchange sent.
    received: usize,
    /// Number of messages without a price, but with the exchange's time.
    timed: usize,
    /// Number of messages about other symbols: those with a price and, for Bitfinex, acknowledgements.
    of_others: fn(&[Row], &str) -> usize,
    /// A symbol for which it has no price.
    absent: &'static str,
}

// How many were received, and how many of those without a price have a time:
//   jq -r 'select(.d=="<").d' FILE | wc -l
//   jq -r 'select(.d=="<").raw|fromjson|objects|select(.type=="heartbeat" or .time_out or .event=="data")|1' FILE | wc -l
#[rustfmt::skip]
const RECORDINGS: &[Recording] = &[
    Recording { file: "binance_spot_streams_b", dialect: "binance-stream", received: 3000, timed: 0, of_others: priced, absent: "ETHUSDT" },
    Recording { file: "binance_spot_streams_e", dialect: "binance-stream", received: 800, timed: 0, of_others: priced, absent: "BTCUSDT" },
    // Matches and heartbeats; no tickers.
    Recording { file: "coinbase_exchange_m", dialect: "coinbase", received: 556, timed: 118, of_others: priced, absent: "BTC-USD" },
    // Tickers, and matches, which make no price.
    Recording { file: "coinbase_exchange_a", dialect: "coinbase", received: 217, timed: 0, of_others: priced, absent: "BTC-USD" },
    // Trades and books; no tickers. Its acknowledgements have a time.
    Recording { file: "kraken", dialect: "kraken", received: 3000, timed: 4, of_others: priced, absent: "BTC/USD" },
    // Trades, and changes of the book, which have a time.
    Recording { file: "bitstamp", dialect: "bitstamp", received: 747, timed: 717, of_others: priced, absent: "xrpeur" },
    // Tickers, with sequence numbers; trades and books.
    Recording { file: "bitfinex", dialect: "bitfinex", received: 1693, timed: 0, of_others: acknowledged, absent: "tBTCUSD" },
    // Tickers, and trades, which make no price.
    Recording { file: "okx", dialect: "okx", received: 120, timed: 0, of_others: priced, absent: "UNI-USDT" },
    Recording { file: "bybit", dialect: "bybit", received: 145, timed: 0, of_others: priced, absent: "BTCUSDT" },
];

// File, symbol, number of prices, first, last, lowest, highest; number of those with a time, first and last time in
// microseconds. Printed by this program, started in the folder; its numbers are decimal.
//
//   import datetime, glob, json, statistics
//   from decimal import Decimal as D
//   def rows(name):
//       for line in open(glob.glob(name + '*')[0]):
//           line = json.loads(line)
//           if line['d'] == '<':
//               yield json.loads(line['raw'], parse_float=D)
//   def iso(text):
//       epoch = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
//       us = datetime.datetime.fromisoformat(text.replace('Z', '+00:00')) - epoch
//       return us // datetime.timedelta(microseconds=1)
//   def middle(bid, ask):
//       return (D(bid) + D(ask)) / 2
//   def binance(m):
//       m = m['data']
//       trade = m.get('e') == 'trade'
//       yield m['s'], *((D(m['p']), m['T'] * 1000) if trade else (middle(m['b'], m['a']), None))
//   def coinbase(m):
//       if m['type'] == 'ticker':
//           yield m['product_id'], D(m['price']), iso(m['time'])
//   def bitstamp(m):
//       if m['event'] == 'trade':
//           yield m['channel'][12:], D(m['data']['price_str']), int(m['data']['microtimestamp'])
//   channels = {}
//   def bitfinex(m):
//       if isinstance(m, dict):
//           if m.get('channel') == 'ticker':
//               channels[m['chanId']] = m['symbol']
//       elif m[0] in channels and m[1] != 'hb':
//           yield channels[m[0]], statistics.median(D(m[1][i]) for i in (0, 2, 6)), None
//   def okx(m):
//       if 'data' in m and m['arg']['channel'] == 'tickers':
//           for t in m['data']:
//               last, bid, ask = (D(t[name]) for name in ('last', 'bidPx', 'askPx'))
//               yield t['instId'], statistics.median((last, bid, ask)), int(t['ts']) * 1000
//   def bybit(m):
//       if 'topic' in m:
//           d = m['data']
//           yield d['s'], middle(d['b'][0][0], d['a'][0][0]), m['cts'] * 1000
//   for name, read in [('binance_spot_streams_b', binance), ('binance_spot_streams_e', binance),
//                      ('coinbase_exchange_a', coinbase), ('bitstamp', bitstamp), ('bitfinex', bitfinex),
//                      ('okx', okx), ('bybit', bybit)]:
//       found = {}
//       for m in rows(name):
//           for symbol, price, time in read(m):
//               found.setdefault(symbol, []).append((price, time))
//       for symbol, all in sorted(found.items()):
//           prices, times = [p for p, _ in all], [t for _, t in all if t]
//           print(name, symbol, len(all), prices[0], prices[-1], min(prices), max(prices),
//                 len(times), *times[:1], *times[-1:])
const PRICES: &str = "
binance_spot_streams_b BTCUSDT 3000 61837.63500000 61855.36500000 61824.00000000 61855.37000000 550 1723161255342000 1723161285532000
binance_spot_streams_e ETHUSDT 800 2683.80500000 2682.80500000 2682.80500000 2683.80500000 115 1723161255611000 1723161263714000
coinbase_exchange_a BAND-BTC 9 0.00033458 0.00033396 0.00033396 0.00033458 9 1618677810452702 1618677846087827
coinbase_exchange_a BAND-GBP 5 14.7775 14.7646 14.7646 14.7775 5 1618677810244075 1618677845646013
coinbase_exchange_a CRV-EUR 1 3.2981 3.2981 3.2981 3.2981 1 1618677709984117 1618677709984117
coinbase_exchange_a DASH-BTC 16 0.00619345 0.00619947 0.0061759 0.00620564 16 1618677790760642 1618677846494392
coinbase_exchange_a NMR-EUR 9 67.021 66.9254 66.9254 67.021 9 1618677815964718 1618677830270671
coinbase_exchange_a NU-GBP 2 0.4394 0.4393 0.4393 0.4394 2 1618677798435588 1618677826345172
coinbase_exchange_a SKL-BTC 9 0.00001303 0.00001304 0.00001303 0.00001306 9 1618677817067586 1618677841015484
coinbase_exchange_a SKL-GBP 2 0.5752 0.5762 0.5752 0.5762 2 1618677809571587 1618677817270697
coinbase_exchange_a SKL-USD 53 0.7904 0.7902 0.7901 0.7921 53 1618677817056746 1618677846669388
coinbase_exchange_a YFI-BTC 1 0.82601 0.82601 0.82601 0.82601 1 1618677795270101 1618677795270101
bitstamp ethusd 10 3805.44 3800.80 3800.53 3805.44 10 1641343699596000 1641343721269000
bitfinex tBFTUSD 1 0.076989 0.076989 0.076989 0.076989 0
bitfinex tDOGUSD 4 282030 281530 281530 282030 0
bitfinex tIOTETH 4 0.0010261 0.0010261 0.0010258 0.0010261 0
bitfinex tMNABTC 4 0.00002516 0.00002516 0.00002516 0.00002516 0
bitfinex tODEUSD 2 0.02089 0.02088 0.02088 0.02089 0
bitfinex tSNGUSD 3 0.03876 0.03876 0.03876 0.03876 0
bitfinex tTESTBTC:TESTUSD 3 60406 60417 60406 60419 0
okx BTC-USD-220527 2 30218.8 30217.8 30217.8 30218.8 2 1652459223003000 1652459234474000
okx BTC-USDT 25 30228.7 30230.2 30228.7 30247.4 25 1652459224956000 1652459235637000
okx UNI-USD-SWAP 1 5.134 5.134 5.134 5.134 1 1652459223143000 1652459223143000
bybit ARBUSDC 54 0.34495 0.3449 0.3448 0.3452 54 1749833475038000 1749833501662000
bybit CPOOLUSDT 14 0.11701 0.11701 0.11701 0.117015 14 1749833475043000 1749833502862000
bybit KCSUSDT 19 11.255 11.2525 11.2515 11.2585 19 1749833469015000 1749833502894000
bybit MASAUSDT 11 0.02171 0.02171 0.02171 0.02171 11 1749833471983000 1749833501989000
bybit OPUSDC 30 0.5795 0.5795 0.579 0.5795 30 1749833472901000 1749833502259000
bybit TUSDUSDT 11 0.99685 0.99685 0.99685 0.99685 11 1749833453706000 1749833500204000
";

/// The markets whose bid and ask stand 4 % and 12 % apart, which makes no price.
const WIDE: [&str; 2] = ["tBFTUSD", "tSNGUSD"];

/// What the program found about one symbol in one file.
struct Row {
    file: &'static str,
    symbol: &'static str,
    count: usize,
    /// First, last, lowest and highest price.
    prices: Vec<f64>,
    timed: usize,
    times_us: Vec<u64>,
}

fn rows(file: &str) -> Vec<Row> {
    let row = |line: &'static str| {
        let words: Vec<&str> = line.split(' ').collect();
        Row {
            file: words[0],
            symbol: words[1],
            count: words[2].parse().unwrap(),
            prices: words[3..7]
                .iter()
                .map(|word| word.parse().unwrap())
                .collect(),
            timed: words[7].parse().unwrap(),
            times_us: words[8..]
                .iter()
                .map(|word| word.parse().unwrap())
                .collect(),
        }
    };
    let rows = PRICES.lines().skip(1).map(row);
    rows.filter(|row| row.file == file).collect()
}

fn priced(rows: &[Row], symbol: &str) -> usize {
    let others = rows.iter().filter(|row| row.symbol != symbol);
    others.map(|row| row.count).sum()
}

fn acknowledged(rows: &[Row], symbol: &str) -> usize {
    rows.iter().filter(|row| row.symbol != symbol).count()
}

/// The examples of Binance's documentation. One is a template, not JSON.
const EXAMPLES: &str = "binance_wsapi_DOC_EXAMPLES";

/// The messages that the exchange sent, in the recording whose name begins with `file`.
fn received(file: &str) -> Vec<String> {
    let folder = std::env::var_os("RSORACLE_RECORDED").map(PathBuf::from);
    let folder = folder.expect("RSORACLE_RECORDED names the folder of recordings");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let path = entries
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(file)
        })
        .unwrap_or_else(|| panic!("no {file}* in {folder:?}"));
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let mut spans = Spans::new();
        let json = Json::read(line, &mut spans).unwrap();
        let [direction, raw] = json.pick(["d", "raw"]);
        direction
            .unwrap()
            .says("<")
            .then(|| raw.unwrap().text().unwrap().into_owned())
    };
    text.lines().filter_map(line).collect()
}

fn dialect(name: &str) -> &'static Dialect {
    DIALECTS.iter().find(|known| known.name == name).unwrap()
}

/// What a parser found in a recording.
#[derive(Default)]
struct Heard {
    prices: Vec<f64>,
    times_us: Vec<u64>,
    timed: usize,
    of_others: usize,
    wide: usize,
}

/// Reads a recording as a collector of `symbol` would.
fn hear(dialect: &Dialect, symbol: &str, frames: &[String]) -> Heard {
    let mut heard = Heard::default();
    let mut channel = None;
    for frame in frames {
        let topics = Topics {
            symbols: &[symbol],
            channels: &[channel],
        };
        match (dialect.read)(frame, &topics) {
            Said::Price {
                id, price, time_us, ..
            } => {
                assert_eq!(id, None, "nothing was asked for");
                heard.prices.push(price);
                heard.times_us.extend(time_us);
            }
            Said::Channel { number, .. } => channel = Some(number),
            Said::Alive { time_us } => heard.timed += usize::from(time_us.is_some()),
            Said::Fault {
                miss: Miss::WrongSymbol,
                ..
            } => heard.of_others += 1,
            Said::Fault {
                miss: Miss::TooWide,
                ..
            } => heard.wide += 1,
            other => panic!("{symbol}: {other:?}: {frame}"),
        }
    }
    heard
}

#[test]
#[ignore = "needs recordings"]
fn every_recorded_price_is_read_and_nothing_else_is_taken_for_one() {
    for recording in RECORDINGS {
        let frames = received(recording.file);
        assert_eq!(frames.len(), recording.received, "{}", recording.file);
        let rows = rows(recording.file);
        let symbols = rows.iter().map(|row| row.symbol);
        for symbol in symbols.chain([recording.absent]) {
            let what = format!("{} {symbol}", recording.file);
            let heard = hear(dialect(recording.dialect), symbol, &frames);
            assert_eq!(
                heard.of_others,
                (recording.of_others)(&rows, symbol),
                "{what}"
            );
            assert_eq!(heard.timed, recording.timed, "{what}");
            let Some(row) = rows.iter().find(|row| row.symbol == symbol) else {
                assert_eq!(heard.prices, [0.0; 0], "{what}");
                continue;
            };
            let wide = usize::from(WIDE.contains(&symbol)) * row.count;
            assert_eq!(heard.wide, wide, "{what}");
            if wide > 0 {
                assert_eq!(heard.prices, [0.0; 0], "{what}");
                continue;
            }
            let (prices, times_us) = (&heard.prices, &heard.times_us);
            assert_eq!(
                (prices.len(), times_us.len()),
                (row.count, row.timed),
                "{what}"
            );
            let lowest = prices.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = prices.iter().copied().fold(0.0, f64::max);
            let found = [prices[0], prices[row.count - 1], lowest, highest];
            assert_eq!(found[..], row.prices, "{what}");
            let ends = times_us.first().into_iter().chain(times_us.last());
            assert!(ends.eq(&row.times_us), "{what}: {times_us:?}");
        }
    }
}

/// Counted by hand in the file: 24 messages of the exchange. One answer has the price and one the quote of BNBBTC, one is a
/// ban, eight are errors of a stream (one of them is not JSON), and three announce a shutdown.
#[test]
#[ignore = "needs recordings"]
fn the_documents_own_examples_are_understood() {
    let frames = received(EXAMPLES);
    let topics = Topics {
        symbols: &["BNBBTC"],
        channels: &[None],
    };
    let count = |name: &str, wanted: fn(&Said) -> bool| {
        let said = frames
            .iter()
            .map(|frame| (dialect(name).read)(frame, &topics));
        said.filter(wanted).count()
    };
    let refused = |said: &Said| matches!(said, Said::Refusal(_));
    let leaving = |said: &Said| matches!(said, Said::Leaving(_));
    let broken = |said: &Said| {
        matches!(
            said,
            Said::Fault {
                miss: Miss::NotJson,
                ..
            }
        )
    };
    let price = |said: &Said| matches!(said, Said::Price { price, .. } if *price == 0.013619);
    let quote = |said: &Said| matches!(said, Said::Price { price, .. } if *price == 0.0135805);
    assert_eq!(
        (count("binance", price), count("binance-book", quote)),
        (1, 1)
    );
    assert_eq!(
        (count("binance", refused), count("binance", leaving)),
        (1, 1)
    );
    // The ban is also wrapped as in a stream's refusals.
    assert_eq!(count("binance-stream", refused), 8 + 1);
    assert_eq!(
        (
            count("binance-stream", leaving),
            count("binance-stream", broken)
        ),
        (2, 1)
    );
}

/// About fifty frames of each recording, from beginning to end, with the symbol of each, to be read by every parser.
fn samples() -> Vec<(&'static str, Vec<String>)> {
    let mut samples = Vec::new();
    let symbol = |known: &Recording| match rows(known.file).first() {
        Some(row) => (known.file, row.symbol),
        None => (known.file, known.absent),
    };
    for (file, symbol) in RECORDINGS.iter().map(symbol).chain([(EXAMPLES, "BNBBTC")]) {
        let frames = received(file);
        let step = frames.len() / 50 + 1;
        samples.push((symbol, frames.into_iter().step_by(step).collect()));
    }
    samples
}

/// The price that any of the parsers finds in a text, if the channel of the subscription is `channel`.
fn any_price(text: &str, symbol: &str, channel: Option<u64>) -> Option<f64> {
    let topics = Topics {
        symbols: &[symbol],
        channels: &[channel],
    };
    let said = DIALECTS.iter().map(|dialect| (dialect.read)(text, &topics));
    let price = |said| match said {
        Said::Price { price, .. } => Some(price),
        _ => None,
    };
    said.filter_map(price).next()
}

/// The channel number in a frame of Bitfinex.
fn channel(frame: &str) -> Option<u64> {
    let mut spans = Spans::new();
    Json::read(frame, &mut spans).ok()?.at(0)?.whole()
}

/// Frames of more than a thousand bytes (order books) are only truncated at every 97th byte.
#[test]
#[ignore = "needs recordings"]
fn no_truncation_of_a_recorded_frame_is_a_price() {
    let samples = samples();
    let mut whole = 0;
    for (symbol, frames) in &samples {
        for frame in frames {
            let channel = channel(frame);
            whole += usize::from(any_price(frame, symbol, channel).is_some());
            let step = if frame.len() > 1_000 { 97 } else { 1 };
            for end in (0..frame.len()).step_by(step) {
                if let Some(part) = frame.get(..end) {
                    assert_eq!(any_price(part, symbol, channel), None, "{part}");
                }
            }
        }
    }
    assert!(
        whole > 100,
        "only {whole} of the frames have a price to begin with"
    );
}

/// Replaces, drops and doubles bytes of recorded frames, and splices frames, as a seed decides.
#[test]
#[ignore = "needs recordings"]
fn no_mutation_of_a_recorded_frame_makes_a_parser_panic_or_invent_a_price() {
    let samples = samples();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    const ALPHABET: &[u8] = b"{}[]\",:0123456789.eE+-\\u/ntf\0 \x7f\xc3";
    let mut priced = 0;
    for (symbol, frames) in &samples {
        for _ in 0..5_000 {
            let frame = &frames[below(frames.len())];
            let channel = channel(frame);
            let mut bytes = frame.as_bytes()[..frame.len().min(2_000)].to_vec();
            for _ in 0..1 + below(3) {
                let at = below(bytes.len());
                match below(6) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, bytes[at]),
                    2 => {
                        let other = &frames[below(frames.len())].as_bytes();
                        let from = below(other.len());
                        let to = (from + below(20)).min(other.len());
                        bytes.splice(at..at, other[from..to].iter().copied());
                    }
                    _ => bytes[at] = ALPHABET[below(ALPHABET.len())],
                }
                if bytes.is_empty() {
                    bytes.push(b'{');
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Some(price) = any_price(&text, symbol, channel) {
                assert!(is_price(price), "{text}");
                priced += 1;
            }
        }
    }
    assert!(
        priced > 100,
        "only {priced} mutations came through to a price"
    );
}
