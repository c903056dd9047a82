//! Parses command lines by the table of a command, and writes the help text from the same table.
//!
//! Invariant: whatever a table does not name is refused, with a sentence that names it and says what would be valid. Errors
//! about a value from a file name the file, line and key. The tables themselves are in `flags::tables`.

use rsoracle_proof::duration::{duration_text, duration_us};
use rsoracle_verify::error::{VALUE_CHARS_MAX, brief};
use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// One flag of a command.
pub struct Flag {
    /// Name without the dashes.
    pub name: &'static str,
    /// Placeholder for its value in the help text; empty for a switch, which takes none, and in brackets if it may be left out.
    pub value: &'static str,
    /// The default value; empty for none.
    pub default: &'static str,
    /// Whether it may be given more than once.
    pub repeats: bool,
    /// What it does, for the help text.
    pub help: &'static str,
}

/// One command: `rsoracle NAME`.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub job: &'static str,
    /// Further notes for the help text, in lines.
    pub notes: &'static str,
    /// A valid example.
    pub example: &'static str,
    /// Its operands: `FILE` for exactly one, `FILE…` for one or more, `[FILE…]` for any number, empty for none.
    pub operands: &'static str,
    /// Groups of flags, each with a title and the names of its flags; empty for one group.
    pub groups: &'static [(&'static str, &'static str)],
    /// Its flags.
    pub flags: &'static [Flag],
}

/// An error in the command line or the configuration file.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(
    /// What is wrong, and what would be valid.
    pub String,
);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One value of a flag.
#[derive(Debug)]
struct Setting {
    name: &'static str,
    text: String,
    /// Where it is in a file, such as `oracle.toml: line 7, key 'interval'`; empty if it was given on the command line.
    place: String,
}

/// The flags and operands that were given, checked against the table. Values of a configuration file may be added to them.
#[derive(Debug)]
pub struct Given {
    command: &'static Command,
    values: Vec<Setting>,
    operands: Vec<String>,
    /// The file's sections for single kinds of source.
    pub sections: Vec<SourceSection>,
}

/// A file's section for one kind of source.
#[derive(Debug)]
pub struct SourceSection {
    /// The kind of source.
    pub name: String,
    /// Where it is, such as `oracle.toml: line 9`.
    pub place: String,
    /// Its values.
    pub given: Given,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Parses `args` (without program and command name) by the table of `command`.
pub fn parse(command: &'static Command, args: &[String]) -> Result<Given, Usage> {
    let mut given = Given::nothing(command);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(body) = arg.strip_prefix("--") else {
            // An argument with a single dash is a mistyped flag. A file with such a name must be written './-name'.
            let is_operand = !arg.is_empty() && (!arg.starts_with('-') || arg == "-");
            if !command.operands.is_empty() && is_operand {
                given.operands.push(arg.clone());
                continue;
            }
            return Err(Usage(format!(
                "'{arg}' is not a flag; flags of '{command:?}' begin with --, see 'rsoracle help {command:?}'"
            )));
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = command.flags.iter().find(|flag| flag.name == name) else {
            return Err(Usage(format!(
                "unknown flag --{name}; 'rsoracle help {command:?}' lists the flags of '{command:?}'"
            )));
        };
        if !flag.repeats && given.has(name) {
            return Err(Usage(format!("--{name} is given twice; give it once")));
        }
        let value = match (flag.value, inline) {
            ("", None) => String::new(),
            ("", Some(_)) => return Err(Usage(format!("--{name} takes no value"))),
            (_, Some(value)) => value,
            (what, None) if what.starts_with('[') => {
                let value = rest.as_slice().first();
                match value.is_some_and(|word| !word.starts_with('-')) {
                    true => rest.next().cloned().unwrap_or_default(),
                    false => String::new(),
                }
            }
            (what, None) => rest
                .next()
                .cloned()
                .ok_or_else(|| Usage(format!("--{name} lacks its value: --{name} {what}")))?,
        };
        given.set(flag.name, value, "");
    }
    given.count_operands()?;
    Ok(given)
}

impl Given {
    /// An empty command line.
    pub fn nothing(command: &'static Command) -> Given {
        Given {
            command,
            values: Vec::new(),
            operands: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Adds a value from `place` in a file, or from the command line if `place` is empty.
    pub fn set(&mut self, name: &str, text: String, place: &str) {
        self.values.push(Setting {
            name: self.flag(name).name,
            text,
            place: place.to_owned(),
        });
    }

    /// Whether a flag was given on the command line.
    pub fn typed(&self, name: &str) -> bool {
        let typed = |setting: &Setting| setting.name == name && setting.place.is_empty();
        self.values.iter().any(typed)
    }

    /// The error about an invalid value; `right` describes valid ones.
    pub fn wrong(&self, name: &str, text: &str, right: &str) -> Usage {
        match self.place(name) {
            "" => wrong(name, text, right),
            place => Usage(format!(
                "{place}: {:?} is not valid; expected {right}",
                brief(text, VALUE_CHARS_MAX)
            )),
        }
    }

    /// The error about flags that contradict each other, with the place of the first of them that came from a file.
    pub(crate) fn contradiction(&self, flags: &[&str], sentence: impl fmt::Display) -> Usage {
        let mut places = flags.iter().map(|name| self.place(name));
        match places.find(|place| !place.is_empty()) {
            Some(place) => Usage(format!("{place}: {sentence}")),
            None => Usage(sentence.to_string()),
        }
    }

    fn place(&self, name: &str) -> &str {
        let setting = self.values.iter().find(|setting| setting.name == name);
        setting.map_or("", |setting| &setting.place)
    }

    /// The operands, in their order.
    pub fn operands(&self) -> &[String] {
        &self.operands
    }

    /// Checks the number of operands against the table.
    fn count_operands(&self) -> Result<(), Usage> {
        let (command, what) = (self.command, self.command.operands);
        match self.operands.as_slice() {
            [] if !what.is_empty() && !what.starts_with('[') => Err(Usage(format!(
                "{what} is missing: rsoracle {command:?} {what}"
            ))),
            [_, second, ..] if !what.contains('…') => Err(Usage(format!(
                "'{second}' is one too many; '{command:?}' takes one {what}"
            ))),
            _ => Ok(()),
        }
    }

    /// All values of a flag that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values
            .iter()
            .filter(move |setting| setting.name == name)
            .map(|setting| setting.text.as_str())
    }

    /// Whether a flag was given, by hand or in a file.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// A flag's value or its default, if it has either.
    pub fn text(&self, name: &str) -> Option<&str> {
        let default = self.flag(name).default;
        self.all(name).next().or(if default.is_empty() {
            None
        } else {
            Some(default)
        })
    }

    /// A flag's value or its default; an error without either.
    pub fn required(&self, name: &str) -> Result<&str, Usage> {
        self.text(name).ok_or_else(|| {
            Usage(format!(
                "--{name} is missing: --{name} {}",
                self.flag(name).value
            ))
        })
    }

    /// A flag's value, parsed; `right` describes valid values in the error.
    pub fn read<T: FromStr>(&self, name: &str, right: &str) -> Result<T, Usage> {
        let text = self.required(name)?;
        text.parse().map_err(|_| self.wrong(name, text, right))
    }

    /// A whole number within `range`.
    pub fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<T, Usage>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let right = format!("a whole number from {} to {}", range.start(), range.end());
        let number: T = self.read(name, &right)?;
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(self.wrong(name, self.required(name)?, &right))
        }
    }

    /// A duration in microseconds within `range_us`.
    pub(crate) fn duration_us(
        &self,
        name: &str,
        range_us: RangeInclusive<u64>,
    ) -> Result<u64, Usage> {
        let text = self.required(name)?;
        let us = duration_us(text).map_err(|right| self.wrong(name, text, right))?;
        if range_us.contains(&us) {
            return Ok(us);
        }
        let right = format!(
            "a duration from {} to {}",
            duration_text(*range_us.start()),
            duration_text(*range_us.end())
        );
        Err(self.wrong(name, text, &right))
    }

    /// An address and port, such as `127.0.0.1:8000`.
    pub fn address(&self, name: &str) -> Result<SocketAddr, Usage> {
        self.read(
            name,
            "an address and port such as 127.0.0.1:8000 or [::1]:8000, the port from 0 to 65535",
        )
    }

    fn flag(&self, name: &str) -> &'static Flag {
        self.command
            .flags
            .iter()
            .find(|flag| flag.name == name)
            .expect("the flag is in the command's table")
    }
}

/// The error about an invalid value of the flag `name`; `right` describes valid ones.
pub fn wrong(name: &str, text: &str, right: &str) -> Usage {
    Usage(format!(
        "--{name} {:?} is not valid; expected {right}",
        brief(text, VALUE_CHARS_MAX)
    ))
}

/// A command's name and operands, as one types them.
pub fn call(command: &Command) -> String {
    format!("{} {}", command.name, command.operands)
        .trim_end()
        .to_owned()
}

/// A flag and its value, as one types them.
pub fn typed(flag: &Flag) -> String {
    format!("--{} {}", flag.name, flag.value)
        .trim_end()
        .to_owned()
}

/// What a flag does, whether it may be repeated, and its default.
pub(crate) fn explanation(flag: &Flag) -> String {
    let repeats = if flag.repeats {
        " May be repeated."
    } else {
        ""
    };
    match flag.default {
        "" => format!("{}{repeats}", flag.help),
        default => format!("{}{repeats} [default: {default}]", flag.help),
    }
}

/// A command's flags in their groups, each with its title. Flags that no group names come last.
pub(crate) fn grouped(command: &Command) -> Vec<(&'static str, Vec<&'static Flag>)> {
    let mut left: Vec<&Flag> = command.flags.iter().collect();
    let mut groups = Vec::new();
    for (title, names) in command.groups {
        let flag = |name| left.iter().position(|flag| flag.name == name);
        let at: Vec<usize> = names.split(' ').filter_map(flag).collect();
        groups.push((*title, at.iter().map(|at| left[*at]).collect()));
        left.retain(|flag| names.split(' ').all(|name| name != flag.name));
    }
    if !left.is_empty() {
        groups.push(("Flags", left));
    }
    groups
}

/// Columns before the explanation of a flag.
const MARGIN: usize = 29;

/// The help text of one command, for a terminal with this many columns.
pub fn help(command: &Command, columns: usize) -> String {
    let title = format!("rsoracle {}: {}", call(command), command.job);
    let mut page = wrapped("", 0, &title, columns);
    if !command.notes.is_empty() {
        page.push('\n');
    }
    for line in command.notes.lines() {
        // An indented line is a row of a list: a term and, after two blanks, its meaning. Either may be missing.
        let (term, meaning) = match line.strip_prefix("  ").map(|row| row.split_once("  ")) {
            None => ("", line),
            Some(None) => (line, ""),
            Some(Some((term, meaning))) => (&line[..2 + term.len()], meaning),
        };
        match line.starts_with(' ') {
            true => page.push_str(&wrapped(&format!("{term:<17}"), 18, meaning, columns)),
            false => page.push_str(&wrapped("", 0, meaning, columns)),
        }
    }
    // On a narrow terminal, explanations begin below their flags.
    let margin = if columns < 2 * MARGIN { 6 } else { MARGIN };
    for (title, flags) in grouped(command) {
        let _ = write!(page, "\n{title}:\n");
        for flag in flags {
            let left = format!("  {}", typed(flag));
            let (first, alone) = match left.len() < margin {
                true => (format!("{left:<0$}", margin - 1), String::new()),
                false => (" ".repeat(margin - 1), left + "\n"),
            };
            page.push_str(&alone);
            page.push_str(&wrapped(&first, margin, &explanation(flag), columns));
        }
    }
    let _ = write!(page, "\nExample:\n  {}\n", command.example);
    page
}

/// `first` and the words of `text`, in lines of at most so many columns. All lines but the first begin with `margin` blanks.
pub fn wrapped(first: &str, margin: usize, text: &str, columns: usize) -> String {
    let mut page = first.to_owned();
    let mut width = first.chars().count();
    let mut begins = first.is_empty();
    for word in text.split_whitespace() {
        let chars = word.chars().count();
        if !begins && width + 1 + chars > columns {
            page.truncate(page.trim_end().len());
            page = format!("{page}\n{}", " ".repeat(margin.saturating_sub(1)));
            width = margin.saturating_sub(1);
            begins = margin == 0;
        }
        let separator = if begins { "" } else { " " };
        page.push_str(separator);
        page.push_str(word);
        width += separator.len() + chars;
        begins = false;
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    static PAINT: Command = Command {
        name: "paint",
        job: "paints",
        notes: "",
        example: "rsoracle paint",
        operands: "",
        groups: &[],
        flags: &[
            Flag {
                name: "coats",
                value: "N",
                default: "2",
                repeats: false,
                help: "How many.",
            },
            Flag {
                name: "dry",
                value: "DURATION",
                default: "1s",
                repeats: false,
                help: "How long.",
            },
            Flag {
                name: "color",
                value: "NAME",
                default: "",
                repeats: true,
                help: "Which.",
            },
            Flag {
                name: "gloss",
                value: "",
                default: "",
                repeats: false,
                help: "Shine.",
            },
        ],
    };

    static MOVE: Command = Command {
        name: "move",
        operands: "DOOR",
        ..PAINT
    };
    static SAND: Command = Command {
        name: "sand",
        operands: "DOOR…",
        ..PAINT
    };

    fn given(line: &str) -> Result<Given, Usage> {
        given_to(&PAINT, line)
    }

    fn given_to(command: &'static Command, line: &str) -> Result<Given, Usage> {
        parse(
            command,
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn operands_are_counted() {
        let g = given_to(&SAND, "front --coats 3 back").unwrap();
        assert_eq!(g.operands(), ["front", "back"]);
        assert_eq!(g.number("coats", 1..=5u32), Ok(3));
        assert_eq!(given_to(&MOVE, "front").unwrap().operands(), ["front"]);
        for (command, line, sentence) in [
            (&MOVE, "", "DOOR is missing: rsoracle move DOOR"),
            (&SAND, "--gloss", "DOOR… is missing: rsoracle sand DOOR…"),
            (&MOVE, "a b", "'b' is one too many; 'move' takes one DOOR"),
            (&SAND, "-a", "'-a' is not a flag"),
        ] {
            let Usage(text) = given_to(command, line).unwrap_err();
            assert!(text.starts_with(sentence), "{text}");
        }
        let empty = parse(&SAND, &[String::new()]).unwrap_err();
        assert!(empty.0.starts_with("'' is not a flag"), "{empty}");
        assert!(help(&SAND, 80).starts_with("rsoracle sand DOOR…: paints\n"));
    }

    #[test]
    fn flags_are_read_with_their_defaults() {
        let g = given("--coats 3 --color red --color=blue --gloss").unwrap();
        assert_eq!(g.number("coats", 1..=5u32), Ok(3));
        assert_eq!(g.duration_us("dry", 0..=u64::MAX), Ok(1_000_000));
        assert_eq!(g.all("color").collect::<Vec<_>>(), ["red", "blue"]);
        assert!(g.has("gloss") && !given("").unwrap().has("gloss"));
        assert_eq!(given("").unwrap().text("color"), None);
    }

    #[test]
    fn invalid_flags_and_values_are_refused_by_name() {
        for (line, names) in [
            ("--coat 3", "--coat"),
            ("coats", "'coats'"),
            ("--coats", "--coats N"),
            ("--coats 1 --coats 2", "twice"),
            ("--gloss=yes", "--gloss"),
        ] {
            let Usage(sentence) = given(line).unwrap_err();
            assert!(sentence.contains(names), "{sentence}");
        }
        let g = given("--coats 0 --dry 10").unwrap();
        assert_eq!(
            g.number("coats", 1..=5u32).unwrap_err().0,
            "--coats \"0\" is not valid; expected a whole number from 1 to 5"
        );
        assert!(
            g.duration_us("dry", 0..=9)
                .unwrap_err()
                .0
                .contains("with a unit")
        );
        assert!(g.required("color").unwrap_err().0.contains("--color NAME"));
    }

    #[test]
    fn errors_about_values_from_a_file_name_their_place() {
        let mut g = given("--dry 2s").unwrap();
        g.set("coats", "9".into(), "house.toml: line 7, key 'coats'");
        assert!(g.typed("dry") && !g.typed("coats") && !g.typed("color"));
        assert_eq!(
            g.number("coats", 1..=5u32).unwrap_err().0,
            "house.toml: line 7, key 'coats': \"9\" is not valid; expected a whole number from 1 to 5"
        );
        let both = g.contradiction(&["dry", "coats"], "--dry 2s is too wet for --coats 9");
        assert_eq!(
            both.0,
            "house.toml: line 7, key 'coats': --dry 2s is too wet for --coats 9"
        );
        assert_eq!(g.contradiction(&["dry"], "--dry 2s").0, "--dry 2s");
    }
}
