//! The settings of `rsoracle verify` and `rsoracle-verify`, from their flags.

use crate::error::{VALUE_CHARS_MAX, brief};
use rsoracle_proof::duration::{duration_text, duration_us};
use rsoracle_proof::seal::unhex;

/// Longest `--max-age` in microseconds: ten years.
const AGE_US_MAX: u64 = 3_650 * 86_400_000_000;

/// What to verify, and against what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The files to verify; `-` is standard input.
    pub files: Vec<String>,
    /// The roster files: the one that is trusted, and those that follow it, in their order. There may be none.
    pub rosters: Vec<String>,
    /// Signatures, each of which the last report of some feed must have.
    pub heads: Vec<[u8; 64]>,
    /// The greatest age of each feed's last price in microseconds, if limited.
    pub age_us_max: Option<u64>,
    /// The files hold published reports only, so that numbers may skip.
    pub published: bool,
    /// Print JSON.
    pub json: bool,
}

impl Settings {
    /// Reads the values of the flags. The error names an invalid one and says what would be valid.
    pub fn new(
        files: Vec<String>,
        rosters: Vec<&str>,
        heads: Vec<&str>,
        max_age: Option<&str>,
        [published, json]: [bool; 2],
    ) -> Result<Settings, String> {
        if let Some(path) = rosters.iter().find(|path| !is_path(path)) {
            return Err(wrong("roster", path, "a path without control characters"));
        }
        if files.iter().filter(|file| *file == "-").count() > 1 {
            return Err("'-' is given twice; standard input can be read once".to_owned());
        }
        if !heads.is_empty() && files.len() > 1 {
            return Err(
                "--head needs exactly one FILE, of whose last report it is the signature"
                    .to_owned(),
            );
        }
        Ok(Settings {
            files,
            rosters: rosters.into_iter().map(str::to_owned).collect(),
            heads: heads.into_iter().map(signature).collect::<Result<_, _>>()?,
            age_us_max: max_age.map(age).transpose()?,
            published,
            json,
        })
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

fn signature(text: &str) -> Result<[u8; 64], String> {
    let right = "the 128 lower-case hexadecimal digits of a report's signature";
    unhex(text).ok_or_else(|| wrong("head", text, right))
}

fn age(text: &str) -> Result<u64, String> {
    let us = duration_us(text).map_err(|right| wrong("max-age", text, right))?;
    if (1..=AGE_US_MAX).contains(&us) {
        return Ok(us);
    }
    let (least, most) = (duration_text(1), duration_text(AGE_US_MAX));
    let right = format!("a duration from {least} to {most}");
    Err(wrong("max-age", text, &right))
}

fn wrong(name: &str, text: &str, right: &str) -> String {
    let text = brief(text, VALUE_CHARS_MAX);
    format!("--{name} {text:?} is not valid; expected {right}")
}
