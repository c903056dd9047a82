//! The live page: one file, which asks nothing of any other server, and whose script checks every report in the browser.
//!
//! Invariant: pure. The page has one style and one script, both inline, and the browser is told to run and apply no others. What is
//! behind this file is not part of any proof: whoever controls the server can send another page (docs/SECURITY.md).

use super::answer::{Answer, Body};
use ed25519_dalek::{Digest, Sha512};
use std::rc::Rc;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// Each file uses those before it. The first four are what docs/PROTOCOL.md says, and know of no page.
const SCRIPT: &str = concat!(
    include_str!("page/signed.js"),
    include_str!("page/reasons.js"),
    include_str!("page/terms.js"),
    include_str!("page/roster.js"),
    include_str!("page/report.js"),
    include_str!("page/chart.js"),
    include_str!("page/session.js"),
    include_str!("page/page.js"),
);
/// For a copy of the page, with which no policy is sent. It may ask any server.
const POLICY_PLACE: &str = "content=\"\"";
const STYLE_PLACE: &str = "<style></style>";
const SCRIPT_PLACE: &str = "<script></script>";

/// The page, and what the browser may do with it.
pub(super) struct Page {
    bytes: Rc<[u8]>,
    policy: String,
}

impl Page {
    pub(super) fn new() -> Page {
        let styled = DOCUMENT.replacen(STYLE_PLACE, &format!("<style>{STYLE}</style>"), 1);
        let whole = styled.replacen(SCRIPT_PLACE, &format!("<script>{SCRIPT}</script>"), 1);
        let own = format!("content=\"{}\"", policy("http: https:"));
        Page {
            bytes: whole.replacen(POLICY_PLACE, &own, 1).into_bytes().into(),
            policy: format!("{}; frame-ancestors 'none'", policy("'self'")),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = Answer::new(200);
        for (name, value) in [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", &self.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            // Another version of the program has another page.
            ("Cache-Control", "no-cache"),
        ] {
            answer.field(name, value);
        }
        answer.body = Body::Bytes(self.bytes.clone());
        answer
    }
}

/// What a browser may do with the page, and which servers it may ask.
fn policy(servers: &str) -> String {
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src {servers}; img-src data:; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
}

/// The name by which a policy allows an inline script or style: the hash of its bytes in base64.
fn hash(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for three in Sha512::digest(text).chunks(3) {
        let bits = (0..3).fold(0, |bits: usize, at| {
            bits << 8 | usize::from(three.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * at) & 63];
            base64.push(if at > three.len() { '=' } else { digit.into() });
        }
    }
    format!("'sha512-{base64}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_and_the_script_have_their_places_and_do_not_end_early() {
        assert_eq!(DOCUMENT.matches(POLICY_PLACE).count(), 1);
        for (place, text, end) in [
            (STYLE_PLACE, STYLE, "</style"),
            (SCRIPT_PLACE, SCRIPT, "</script"),
        ] {
            assert_eq!(DOCUMENT.matches(place).count(), 1, "{place}");
            assert!(!text.contains(end) && !text.contains("<!--"), "{end}");
        }
        let page = Page::new();
        let text = std::str::from_utf8(&page.bytes).unwrap();
        let parts = [DOCUMENT, STYLE, SCRIPT, &policy("http: https:")];
        assert_eq!(text.len(), parts.concat().len());
    }

    /// The vectors of RFC 4648 have no such length; this is `printf abc | openssl dgst -sha512 -binary | base64 -w0`.
    #[test]
    fn a_hash_is_spelled_as_browsers_want_it() {
        assert_eq!(
            hash("abc"),
            "'sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=='"
        );
    }

    #[test]
    fn nothing_is_asked_of_another_server_and_no_text_becomes_markup() {
        let markup = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            ".style",
        ];
        for (part, banned) in [
            (
                DOCUMENT,
                &["<img", "<iframe", "style=", " onclick", " src="][..],
            ),
            (STYLE, &["url(", "@import"]),
            (SCRIPT, &markup),
        ] {
            let without_namespace = part.replace("http://www.w3.org/2000/svg", "");
            for word in [banned, &["http:"]].concat() {
                assert!(!without_namespace.contains(word), "{word}");
            }
        }
    }
}
