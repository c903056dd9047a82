//! Writes the text of one WS-API reply as Binance writes it.
//!
//! Invariant: [`reply`] is a pure function of the request, the scene and the lie. Without a lie, it writes JSON that equals
//! the examples in Binance's documents byte for byte, except for blanks.
//! The rate limit is neither counted nor enforced, and `rateLimits` is always the same; use the fault `status:429:…` to test
//! a rate limit.
//!
//! Sources: Binance's `web-socket-api.md` (response format, rate limits, ticker.price, ticker.book) and `errors.md`.

use super::super::fault::Lie;
use super::super::text::quoted;
use super::request::{Asked, Request, RequestRefusal};

/// Request weight that Binance allows per address and minute.
pub(crate) const WEIGHT_LIMIT: u32 = 6000;
/// The end of every reply to a request that could be read. Clients must ignore it.
const RATE_LIMITS: &str = r#","rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000,"count":2}]"#;
/// Text that is not JSON, for the fault `garbage`.
pub(crate) const GARBAGE: &str = "this is {not JSON: \"at all";

/// The state of the exchange when a request is answered.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The price of the symbol that is asked for, with eight decimals; `None` if it is not traded here.
    pub price: Option<&'a str>,
    /// Whether trade in it is halted.
    pub halted: bool,
    /// The exchange's clock, microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl Scene<'_> {
    fn ms(&self) -> u64 {
        self.unix_us / 1000
    }
}

/// The reply to a request.
pub fn reply(request: &Request, scene: &Scene, lie: &Lie) -> String {
    let result = match &request.asked {
        Err(refusal) => Err(refusal.clone()),
        Ok(Asked::Ping) => Ok("{}".to_owned()),
        Ok(Asked::Time) => Ok(format!("{{\"serverTime\":{}}}", scene.ms())),
        Ok(Asked::Ticker {
            book,
            symbol,
            status,
        }) => price(*book, symbol, status.as_deref(), scene, lie),
    };
    match result {
        Ok(result) => frame(request, lie, 200, &format!("\"result\":{result}"), false),
        Err(RequestRefusal { code, msg, unread }) => {
            let error = format!("\"error\":{{\"code\":{code},\"msg\":{}}}", quoted(&msg));
            frame(request, lie, 400, &error, unread)
        }
    }
}

/// The reply to too many requests: status 429, or 418 for a ban.
pub(crate) fn too_many(
    request: &Request,
    scene: &Scene,
    lie: &Lie,
    code: u16,
    retry_us: u64,
) -> String {
    let retry_after = scene.unix_us.saturating_add(retry_us) / 1000;
    let msg = weight_message(code, retry_after);
    let error = format!(
        "\"error\":{{\"code\":-1003,\"msg\":{},\"data\":{{\"serverTime\":{},\"retryAfter\":{retry_after}}}}}",
        quoted(&msg),
        scene.ms()
    );
    frame(request, lie, code, &error, false)
}

/// The message of the error -1003 TOO_MANY_REQUESTS (errors.md). For 418 it says when the ban ends, in milliseconds since the
/// Unix epoch.
pub(crate) fn weight_message(code: u16, until_ms: u64) -> String {
    match code {
        418 => format!(
            "Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams for live updates to avoid bans."
        ),
        _ => format!(
            "Too much request weight used; current limit is {WEIGHT_LIMIT} request weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
        ),
    }
}

fn frame(request: &Request, lie: &Lie, status: u16, body: &str, unread: bool) -> String {
    let id = if lie.wrong_id {
        other_id(&request.id)
    } else {
        request.id.clone()
    };
    let limits = if unread { "" } else { RATE_LIMITS };
    format!("{{\"id\":{id},\"status\":{status},{body}{limits}}}")
}

fn price(
    book: bool,
    symbol: &str,
    status: Option<&str>,
    scene: &Scene,
    lie: &Lie,
) -> Result<String, RequestRefusal> {
    let Some(price) = scene.price else {
        return Err(RequestRefusal::new(-1121, "Invalid symbol."));
    };
    let own = if scene.halted { "HALT" } else { "TRADING" };
    if status.is_some_and(|status| status != own) {
        let msg = "The symbol's status does not match the requested symbolStatus.";
        return Err(RequestRefusal::new(-1220, msg));
    }
    Ok(ticker(book, symbol, price, lie))
}

fn ticker(book: bool, symbol: &str, price: &str, lie: &Lie) -> String {
    let symbol = match (lie.wrong_symbol, symbol) {
        (false, symbol) => symbol,
        (true, "XMRUSDT") => "BTCUSDT",
        // No tape that is built in has it, so nobody asks for it on the same connection.
        (true, _) => "XMRUSDT",
    };
    let price = lie.about(price);
    if !book {
        return format!(r#"{{"symbol":"{symbol}","price":{}}}"#, quoted(&price));
    }
    let (bid, ask) = lie.quote(&price);
    format!(
        r#"{{"symbol":"{symbol}","bidPrice":{},"bidQty":"0.50000000","askPrice":{},"askQty":"0.50000000"}}"#,
        quoted(&bid),
        quoted(&ask)
    )
}

/// A different id of the same JSON type.
fn other_id(id: &str) -> String {
    match id.parse::<i64>() {
        Ok(number) => number.wrapping_add(1).to_string(),
        Err(_) if id == "\"another\"" => "\"other\"".to_owned(),
        Err(_) => "\"another\"".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::json;

    const SCENE: Scene = Scene {
        price: Some("87232.01000000"),
        halted: false,
        unix_us: 1_656_400_526_260_123,
    };

    fn told(text: &str, lie: &Lie) -> String {
        seen(text, &SCENE, lie)
    }

    fn seen(text: &str, scene: &Scene, lie: &Lie) -> String {
        let text = reply(&Request::read(text), scene, lie);
        assert_eq!(json::check(&text), Ok(()), "{text}");
        text
    }

    fn honest(text: &str) -> String {
        told(text, &Lie::default())
    }

    const ASK: &str = r#"{"id":"043a7cf2","method":"ticker.price","params":{"symbol":"BTCUSDT","symbolStatus":"TRADING"}}"#;

    #[test]
    fn replies_are_what_binances_documents_show() {
        let price = r#"{"symbol":"BTCUSDT","price":"87232.01000000"}"#;
        for (ask, answer) in [
            (
                ASK,
                format!(r#"{{"id":"043a7cf2","status":200,"result":{price}{RATE_LIMITS}}}"#),
            ),
            (
                r#"{"id":1,"method":"time"}"#,
                format!(
                    r#"{{"id":1,"status":200,"result":{{"serverTime":1656400526260}}{RATE_LIMITS}}}"#
                ),
            ),
            (
                r#"{"id":null,"method":"ping"}"#,
                format!(r#"{{"id":null,"status":200,"result":{{}}{RATE_LIMITS}}}"#),
            ),
        ] {
            assert_eq!(honest(ask), answer);
        }
    }

    #[test]
    fn refusals_carry_the_id_and_the_code() {
        let params = |p: &str| format!(r#"{{"id":1,"method":"ticker.price","params":{p}}}"#);
        let unknown = Scene {
            price: None,
            ..SCENE
        };
        let halted = Scene {
            halted: true,
            ..SCENE
        };
        let invalid = r#"{"code":-1121,"msg":"Invalid symbol."}"#;
        let other = r#"{"code":-1220,"msg":"The symbol's status does not match the requested symbolStatus."}"#;
        for (p, scene, error) in [
            (r#"{"symbol":"BNBBTC"}"#, unknown, invalid),
            (
                r#"{"symbol":"BTCUSDT","symbolStatus":"BREAK"}"#,
                SCENE,
                other,
            ),
            (
                r#"{"symbol":"BTCUSDT","symbolStatus":"TRADING"}"#,
                halted,
                other,
            ),
        ] {
            let expected = format!(r#"{{"id":1,"status":400,"error":{error}{RATE_LIMITS}}}"#);
            assert_eq!(seen(&params(p), &scene, &Lie::default()), expected);
        }
        for p in [
            r#"{"symbol":"A"}"#,
            r#"{"symbol":"A","symbolStatus":"HALT"}"#,
        ] {
            assert!(seen(&params(p), &halted, &Lie::default()).contains("87232.01"));
        }
        assert_eq!(
            honest("{"),
            r#"{"id":null,"status":400,"error":{"code":-1135,"msg":"Invalid JSON Request"}}"#
        );
        assert!(honest(&params(r#"{"symbol":"a"}"#)).contains(r"'^[\\w\\-._"));
    }

    #[test]
    fn a_book_stands_around_the_price() {
        let ask = ASK.replace("ticker.price", "ticker.book");
        let book = r#""result":{"symbol":"BTCUSDT","bidPrice":"87232.00000000","bidQty":"0.50000000","askPrice":"87232.02000000","askQty":"0.50000000"}"#;
        assert!(honest(&ask).contains(book), "{}", honest(&ask));
        let lie = Lie {
            price: Some("abc".to_owned()),
            ..Lie::default()
        };
        assert!(told(&ask, &lie).contains(r#""bidPrice":"abc""#));
    }

    #[test]
    fn a_ban_is_answered_as_binance_does() {
        let request = Request::read(ASK);
        let ban = too_many(&request, &SCENE, &Lie::default(), 418, 2_000_000);
        assert_eq!(
            ban,
            format!(
                r#"{{"id":"043a7cf2","status":418,"error":{{"code":-1003,"msg":"Way too much request weight used; IP banned until 1656400528260. Please use WebSocket Streams for live updates to avoid bans.","data":{{"serverTime":1656400526260,"retryAfter":1656400528260}}}}{RATE_LIMITS}}}"#
            )
        );
        let slow_down = too_many(&request, &SCENE, &Lie::default(), 429, u64::MAX);
        assert!(
            slow_down.contains(r#""status":429,"error":{"code":-1003,"msg":"Too much request"#)
        );
        assert_eq!(json::check(&slow_down), Ok(()));
    }

    #[test]
    fn lies_are_sent_unchanged() {
        let price = |text: &str| Lie {
            price: Some(text.to_owned()),
            ..Lie::default()
        };
        for text in ["NaN", "0", "-1", "1e400", "", "abc"] {
            assert!(told(ASK, &price(text)).contains(&format!(r#""price":"{text}"}}"#)));
        }
        assert!(told(ASK, &price("\"\\\n")).contains(r#""price":"\"\\\u000a""#));
        let lie = Lie {
            wrong_id: true,
            wrong_symbol: true,
            scale: Some(0.5),
            ..Lie::default()
        };
        let answer = told(ASK, &lie);
        assert!(answer.contains(r#""id":"another""#) && answer.contains(r#""symbol":"XMRUSDT""#));
        assert!(answer.contains(r#""price":"43616.00500000""#), "{answer}");
        assert!(told(r#"{"id":7,"method":"ping"}"#, &lie).contains(r#""id":8,"#));
    }

    /// A small deterministic source of numbers (xorshift).
    fn next(seed: &mut u64) -> usize {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 16) as usize
    }

    #[test]
    fn hostile_requests_are_answered_in_json_without_a_panic() {
        for end in 0..ASK.len() {
            assert!(honest(&ASK[..end]).contains("-1135"));
        }
        let deep = format!(r#"{{"id":1,"method":"ping","x":{}}}"#, "[".repeat(60_000));
        assert!(honest(&deep).contains("-1135"));
        let alphabet = br#"{}[]",:\u0019eE+-.ntf a/"#;
        let mut seed = 0x5eed_1234_9abc_def1;
        for _ in 0..60_000 {
            let mut bytes = ASK.as_bytes().to_vec();
            for _ in 0..1 + next(&mut seed) % 4 {
                let at = next(&mut seed) % bytes.len();
                let byte = alphabet[next(&mut seed) % alphabet.len()];
                match next(&mut seed) % 3 {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            honest(&String::from_utf8(bytes).unwrap());
        }
    }
}
