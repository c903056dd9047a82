//! Who this client is to a NATS server: a user's key, and maybe a token of its account that names that key (`--creds`, `--nkey`).
//!
//! A seed is base32 (RFC 4648, without padding) of two bytes that say what it is for, 32 bytes, and their CRC-16 (XMODEM, low byte
//! first). Invariant: a seed is wiped where it was read. The server's nonce has no context of ours, and it may be any text: an
//! oracle's key, whose file has another form, is never used here.

use crate::exchange::proxy::base64;
use crate::flags::args::{Given, Usage};
use crate::flags::values::path;
use crate::keys::secret::{SecretKey, wipe};
use crate::system::limits::PEM_BYTES_MAX;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;

/// What the five highest bits of the first byte say: a seed, and then in the next five: of a user.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Bytes of a seed, decoded, and of a public key.
const SEED_BYTES: usize = 2 + 32 + 2;
const PUBLIC_BYTES: usize = 1 + 32 + 2;

/// A user's key, and its token if it has one.
pub(crate) struct Credentials {
    token: Option<String>,
    key: SecretKey,
}

impl Credentials {
    /// The file that `--creds` or `--nkey` names, and which of them did.
    pub(crate) fn named(given: &Given) -> Result<Option<(String, &'static str)>, Usage> {
        match (path(given, "creds")?, path(given, "nkey")?) {
            (Some(_), Some(_)) => {
                let sentence = "--creds and --nkey exclude each other; give one";
                Err(given.contradiction(&["creds", "nkey"], sentence))
            }
            (Some(file), None) => Ok(Some((file, "creds"))),
            (None, file) => Ok(file.map(|file| (file, "nkey"))),
        }
    }

    /// Reads a file of credentials (`--creds`), which has a token and a seed, or of a seed alone (`--nkey`).
    pub(crate) fn read(path: &str, flag: &str) -> Result<Credentials, Error> {
        let attempt = format!("cannot use the credentials {path} (--{flag})");
        let mut bytes = files::read(path, PEM_BYTES_MAX, &attempt)?;
        let has_token = flag == "creds";
        let found = parse(&bytes, has_token);
        wipe(&mut bytes);
        found.ok_or_else(|| {
            let (cause, advice) = match has_token {
                true => (
                    "it has no token or no user's seed",
                    "it takes a file such as 'nsc generate creds' writes; a file with a seed alone goes with --nkey",
                ),
                false => (
                    "it has no user's seed",
                    "it takes a file with a line such as SU…, which 'nk -gen user' makes; a file with a token goes with --creds",
                ),
            };
            Error::new(attempt, cause).advise(advice)
        })
    }

    /// What CONNECT says of it, as members of an object. `nonce` is the server's.
    pub(crate) fn answer(&self, nonce: &str) -> String {
        let signature = base64(&self.key.sign(nonce.as_bytes()));
        let signature = signature
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        let who = match &self.token {
            Some(token) => format!("\"jwt\":\"{token}\""),
            None => format!("\"nkey\":\"{}\"", public(self.key.public().bytes())),
        };
        format!(",{who},\"sig\":\"{signature}\"")
    }
}

/// The token and the key in a file.
fn parse(bytes: &[u8], has_token: bool) -> Option<Credentials> {
    let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let key = lines().find_map(key)?;
    let is_token = |line: &&[u8]| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        line.starts_with(b"ey") && line.iter().all(fits)
    };
    let token = lines()
        .find(is_token)
        .map(|line| String::from_utf8_lossy(line).into_owned());
    (token.is_some() || !has_token).then(|| Credentials {
        token: token.filter(|_| has_token),
        key,
    })
}

/// The key of a user's seed.
fn key(line: &[u8]) -> Option<SecretKey> {
    let (mut bytes, mut seed) = ([0; SEED_BYTES], [0; 32]);
    let right = decode(line, &mut bytes)
        && [bytes[0], bytes[1]] == [SEED | USER >> 5, USER << 3]
        && bytes[34..] == crc(&bytes[..34]).to_le_bytes();
    seed.copy_from_slice(&bytes[2..34]);
    wipe(&mut bytes);
    let key = SecretKey::from_seed(&mut seed);
    right.then_some(key)
}

/// A user's public key as text.
fn public(key: &[u8; 32]) -> String {
    let mut bytes = [0; PUBLIC_BYTES];
    bytes[0] = USER;
    bytes[1..33].copy_from_slice(key);
    let crc = crc(&bytes[..33]);
    bytes[33..].copy_from_slice(&crc.to_le_bytes());
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let letter = |at: usize| (0..5).fold(0, |letter, bit_at| letter << 1 | bit(at * 5 + bit_at));
    (0..PUBLIC_BYTES * 8 / 5)
        .map(|at| char::from(ALPHABET[usize::from(letter(at))]))
        .collect()
}

/// Decodes base32 into exactly these bytes. Returns whether the text was that of so many.
fn decode(text: &[u8], bytes: &mut [u8; SEED_BYTES]) -> bool {
    if text.len() != (SEED_BYTES * 8).div_ceil(5) {
        return false;
    }
    for (at, letter) in text.iter().enumerate() {
        let Some(five) = ALPHABET.iter().position(|known| known == letter) else {
            return false;
        };
        for bit in 0..5 {
            let (to, is_set) = (at * 5 + bit, five >> (4 - bit) & 1);
            match bytes.get_mut(to / 8) {
                Some(byte) => *byte |= (is_set as u8) << (7 - to % 8),
                None if is_set == 1 => return false,
                None => {}
            }
        }
    }
    true
}

/// CRC-16 (XMODEM).
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Python's nkeys 0.2.1 of the bytes 0 to 31.
    const SEED_TEXT: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";
    const SIGNATURE: &str =
        "kKPB5DjH31g0epf8HWXaG8cm9uxqizSHb14G2dIfKRcyTwf9qJ371DXAPrvqVFRNJRXMWQMsMxzoUcFVJJCuDg";

    #[test]
    fn a_seed_makes_the_key_and_the_signature_that_another_program_makes_of_it() {
        let own = parse(format!("# a comment\n  {SEED_TEXT}\r\n").as_bytes(), false);
        let answer = own.expect("a seed").answer("a nonce");
        assert_eq!(
            answer,
            format!(",\"nkey\":\"{PUBLIC}\",\"sig\":\"{SIGNATURE}\"")
        );
        let file = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0eXAi.eyJq_-x.c2ln\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{SEED_TEXT}\n------END USER NKEY SEED------\n"
        );
        let answer = parse(file.as_bytes(), true)
            .expect("both")
            .answer("a nonce");
        let right = format!(",\"jwt\":\"eyJ0eXAi.eyJq_-x.c2ln\",\"sig\":\"{SIGNATURE}\"");
        assert_eq!(answer, right);
        assert!(parse(SEED_TEXT.as_bytes(), true).is_none(), "no token");
    }

    #[test]
    fn a_seed_with_any_letter_changed_is_none() {
        for at in 0..SEED_TEXT.len() {
            for letter in [b'A', b'7', b'a', b'1', b' '] {
                let mut text = SEED_TEXT.as_bytes().to_vec();
                if text[at] != letter {
                    text[at] = letter;
                    assert!(key(&text).is_none(), "{at}");
                }
            }
        }
        // An account's, cut, and too long.
        for text in ["", &SEED_TEXT[1..], &format!("{SEED_TEXT}A"), PUBLIC] {
            assert!(key(text.as_bytes()).is_none(), "{text}");
        }
    }
}
