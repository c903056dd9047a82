//! Reads the text of one WS-API request as Binance reads it.
//!
//! Invariant: [`Request::read`] neither panics nor fails, whatever the text; whatever is wrong with a request becomes the
//! refusal that answers it. The id is kept as the bytes that came, because it is echoed unchanged. Only text that is JSON by
//! [`crate::exchange::json`] is read. Whether a symbol exists is decided elsewhere.
//!
//! Sources: Binance's `web-socket-api.md` (request format, ticker.price, ticker.book) and `errors.md` (codes and messages).

use crate::exchange::json::{Json, Spans};

/// One request: its id, and what it asks or why it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The id as it came, as JSON text; `null` if there was no valid one.
    pub id: String,
    /// What is asked, or why it is refused.
    pub asked: Result<Asked, RequestRefusal>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `ticker.price` or `ticker.book`
    Ticker {
        /// Whether best bid and best ask are asked for instead of the last price.
        book: bool,
        /// The symbol. Binance would also accept a list, or none for all symbols.
        symbol: String,
        /// Answer only if the symbol is in this state: TRADING, HALT or BREAK.
        status: Option<String>,
    },
    /// `ping`
    Ping,
    /// `time`
    Time,
}

/// Why a request is not answered with a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRefusal {
    /// Binance's code, from `errors.md`.
    pub code: i32,
    /// Binance's message for it.
    pub msg: String,
    /// Whether the request could not be read at all: such answers were seen without `rateLimits`.
    pub unread: bool,
}

impl RequestRefusal {
    /// Refuses a request that could be read.
    pub fn new(code: i32, msg: impl Into<String>) -> RequestRefusal {
        RequestRefusal {
            code,
            msg: msg.into(),
            unread: false,
        }
    }

    /// -1135 INVALID_JSON
    fn unread(msg: &str) -> RequestRefusal {
        RequestRefusal {
            code: -1135,
            msg: msg.to_owned(),
            unread: true,
        }
    }
}

impl Request {
    /// The symbol whose price is asked for.
    pub fn symbol(&self) -> Option<&str> {
        match &self.asked {
            Ok(Asked::Ticker { symbol, .. }) => Some(symbol),
            _ => None,
        }
    }

    /// Reads one request.
    pub fn read(text: &str) -> Request {
        let unread = |msg| Request {
            id: "null".to_owned(),
            asked: Err(RequestRefusal::unread(msg)),
        };
        let mut spans = Spans::new();
        let Some(json) = Json::read(text, &mut spans)
            .ok()
            .filter(|json| json.members().is_some())
        else {
            return unread("Invalid JSON Request");
        };
        // The id is required (web-socket-api.md, request format). This message was seen on the wire.
        let id = match json.get("id") {
            Some(id) if is_id(id.raw()) => id.raw().to_owned(),
            _ => {
                return unread(
                    "Invalid 'id' in JSON request; expected an integer, a string matching '^[a-zA-Z0-9-_]{1,36}$', or null.",
                );
            }
        };
        let mut spans = Spans::new();
        let none = Json::read("{}", &mut spans).expect("an empty object is JSON");
        let params = json.get("params").unwrap_or(none);
        Request {
            id,
            asked: match (json.get("method").and_then(Json::owned), params.members()) {
                (_, None) => Err(RequestRefusal::unread(
                    "Invalid 'params' in JSON request; expected an object.",
                )),
                (None, _) => Err(RequestRefusal::unread(
                    "Invalid 'method' in JSON request; expected a string.",
                )),
                (Some(method), Some(_)) => asked(&method, params),
            },
        }
    }
}

/// Whether JSON text is a valid id: an integer, a string of 1 to 36 letters, digits, `-` and `_`, or null. A string with an
/// escape is refused: otherwise it would be unclear whether to echo the escape or the character that it means.
fn is_id(raw: &str) -> bool {
    let name = raw.strip_prefix('"').and_then(|s| s.strip_suffix('"'));
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    raw == "null"
        || raw.parse::<i64>().is_ok()
        || name.is_some_and(|s| (1..=36).contains(&s.len()) && s.bytes().all(legal))
}

fn asked(method: &str, params: Json) -> Result<Asked, RequestRefusal> {
    let method = method.strip_prefix("v3/").unwrap_or(method);
    let known: &[&str] = match method {
        "ticker.price" | "ticker.book" => &["symbol", "symbolStatus"],
        "ping" | "time" => &[],
        // -1020 UNSUPPORTED_OPERATION
        _ => {
            return Err(RequestRefusal::new(
                -1020,
                "This operation is not supported.",
            ));
        }
    };
    let is_known = |name: &String| known.contains(&name.as_str());
    let names: Vec<Option<String>> = params
        .members()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.owned())
        .collect();
    let read = names.iter().flatten().filter(|name| is_known(name)).count();
    if read < names.len() {
        // -1104 UNREAD_PARAMETERS
        return Err(RequestRefusal::new(
            -1104,
            format!(
                "Not all sent parameters were read; read '{read}' parameter(s) but was sent '{}'.",
                names.len()
            ),
        ));
    }
    match method {
        "ping" => Ok(Asked::Ping),
        "time" => Ok(Asked::Time),
        _ => Ok(Asked::Ticker {
            book: method == "ticker.book",
            symbol: symbol(params)?,
            status: status(params)?,
        }),
    }
}

/// The name of the symbol, whether it exists or not.
fn symbol(params: Json) -> Result<String, RequestRefusal> {
    let name = params.get("symbol").and_then(Json::owned);
    let name = name.ok_or_else(malformed)?;
    if name.is_empty() {
        return Err(RequestRefusal::new(-1105, "Parameter 'symbol' was empty."));
    }
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if name.len() > 50 || !name.bytes().all(legal) {
        // -1100 ILLEGAL_CHARS
        return Err(RequestRefusal::new(
            -1100,
            "Illegal characters found in parameter 'symbol'; legal range is '^[\\w\\-._&&[^a-z]]{1,50}$'.",
        ));
    }
    Ok(name)
}

fn status(params: Json) -> Result<Option<String>, RequestRefusal> {
    match params.get("symbolStatus").map(Json::owned) {
        None => Ok(None),
        Some(Some(status)) if ["TRADING", "HALT", "BREAK"].contains(&status.as_str()) => {
            Ok(Some(status))
        }
        Some(_) => Err(RequestRefusal::new(-1122, "Invalid symbolStatus.")),
    }
}

/// -1102 MANDATORY_PARAM_EMPTY_OR_MALFORMED
fn malformed() -> RequestRefusal {
    RequestRefusal::new(
        -1102,
        "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> i32 {
        Request::read(text).asked.unwrap_err().code
    }

    fn one(symbol: &str) -> Result<Asked, RequestRefusal> {
        Ok(Asked::Ticker {
            book: false,
            symbol: symbol.to_owned(),
            status: None,
        })
    }

    #[test]
    fn ids_are_kept_as_they_came() {
        for id in [
            "1",
            "0",
            "-7",
            "-0",
            "9223372036854775807",
            "null",
            "\"a1\"",
            "\"A-b_9\"",
            "\"043a7cf2-bde3-4888-9604-c8ac41fcba4d\"",
        ] {
            let request = Request::read(&format!(r#"{{"id": {id} ,"method":"ping"}}"#));
            assert_eq!((request.id.as_str(), request.asked), (id, Ok(Asked::Ping)));
        }
        for id in [
            "1.5",
            "1e2",
            "true",
            "[1]",
            "{}",
            "\"\"",
            "\"a b\"",
            "\"\\u0041\"",
            "\"é\"",
            "\"1234567890123456789012345678901234567\"",
            "92233720368547758080",
        ] {
            let request = Request::read(&format!(r#"{{"id":{id},"method":"ping"}}"#));
            assert_eq!(request.id, "null", "{id}");
            assert_eq!(request.asked.unwrap_err().code, -1135, "{id}");
        }
        assert_eq!(code(r#"{"method":"ping"}"#), -1135);
        assert_eq!(Request::read(r#"{"id":1,"id":2,"method":"ping"}"#).id, "2");
    }

    #[test]
    fn methods_and_parameters_are_read() {
        let price = |params: &str| {
            Request::read(&format!(
                r#"{{"id":1,"method":"ticker.price","params":{params}}}"#
            ))
        };
        assert_eq!(price(r#"{"symbol":"BTCUSDT"}"#).asked, one("BTCUSDT"));
        assert_eq!(
            price(r#"{ "symbol" : "BTC\u0055SDT" }"#).asked,
            one("BTCUSDT")
        );
        assert_eq!(
            Request::read(r#"{"params":{"symbol":"X"},"method":"v3/ticker.price","id":1}"#).asked,
            one("X")
        );
        let halted = price(r#"{"symbol":"A","symbolStatus":"HALT"}"#);
        assert_eq!(
            halted.asked,
            Ok(Asked::Ticker {
                book: false,
                symbol: "A".into(),
                status: Some("HALT".into())
            })
        );
        let time = Request::read(r#" {"id":1,"method":"v3/time","other":[1,{"id":5}]} "#);
        assert_eq!((time.id.as_str(), time.asked), ("1", Ok(Asked::Time)));
    }

    #[test]
    fn what_is_wrong_is_refused_with_binances_code() {
        for (text, expected) in [
            ("", -1135),
            ("x", -1135),
            ("[]", -1135),
            ("1", -1135),
            (r#"{"id":1,"method":"ping""#, -1135),
            (r#"{"id":1}"#, -1135),
            (r#"{"id":1,"method":1}"#, -1135),
            (r#"{"id":1,"method":"ping","params":[]}"#, -1135),
            (r#"{"id":1,"method":"ping","params":null}"#, -1135),
            (r#"{"id":1,"method":"order.place"}"#, -1020),
            (r#"{"id":1,"method":"v3/v3/ping"}"#, -1020),
            (r#"{"id":1,"method":"ping","params":{"symbol":"A"}}"#, -1104),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
        for (params, expected) in [
            (r#"{"symbol":"A","symbols":["B"]}"#, -1104),
            ("{}", -1102),
            (r#"{"symbol":1}"#, -1102),
            (r#"{"symbol":null}"#, -1102),
            (r#"{"symbol":""}"#, -1105),
            (r#"{"symbol":"btcusdt"}"#, -1100),
            (r#"{"symbol":"BTC/USDT"}"#, -1100),
            (r#"{"symbol":"A","symbolStatus":"OPEN"}"#, -1122),
            (r#"{"symbol":"A","symbolStatus":1}"#, -1122),
            (r#"{"symbol":"A","simbol":"B"}"#, -1104),
        ] {
            let text = format!(r#"{{"id":1,"method":"ticker.price","params":{params}}}"#);
            assert_eq!(code(&text), expected, "{params}");
            assert_eq!(Request::read(&text).id, "1");
        }
    }
}
