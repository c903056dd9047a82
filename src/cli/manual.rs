//! Manual pages and shell completions. They are made from the same tables as the help text, so that all of them agree.
//!
//! Invariant: every command and flag of the tables is in its manual page and in each completion. All text of the tables is
//! escaped: none of it is interpreted as markup or code.

use crate::flags::args::{Command, Flag, call, explanation, grouped, typed};
use crate::flags::tables::COMMANDS;

/// What may be typed instead of a command.
const QUESTIONS: &str = "help --help --version";

/// All files: each one's path under PREFIX/share, and its text.
pub fn files() -> Vec<(String, String)> {
    let others = [
        ("man/man1/rsoracle.1", overview()),
        ("bash-completion/completions/rsoracle", bash()),
        ("zsh/site-functions/_rsoracle", zsh()),
        ("fish/vendor_completions.d/rsoracle.fish", fish()),
    ];
    let others = others.map(|(place, text)| (place.to_owned(), text));
    let of_command = |command: &Command| {
        let place = format!("man/man1/rsoracle-{}.1", command.name);
        (place, page(command))
    };
    others.into_iter().chain(COMMANDS.map(of_command)).collect()
}

fn names() -> String {
    COMMANDS.map(|command| command.name).join(" ")
}

/// Whether a value or an operand with this placeholder is a path.
fn is_path(name: &str) -> bool {
    name.contains("FILE") || name.contains("DIR")
}

/// The words that a command takes first, if it takes one of several: its operands begin with them.
fn actions(command: &Command) -> Option<String> {
    let first = command.operands.split(' ').next();
    let words = first.filter(|words| words.contains('|'));
    words.map(|words| words.replace('|', " "))
}

/// Text, escaped so that roff shows it literally (groff_char(7)).
fn roff(text: &str) -> String {
    let letter = |letter| match letter {
        '\\' => "\\e".to_owned(),
        '-' => "\\-".to_owned(),
        '\'' => "\\(aq".to_owned(),
        letter if letter.is_ascii() => letter.to_string(),
        letter => format!("\\[u{:04X}]", u32::from(letter)),
    };
    // A period begins a request only at the beginning of a line.
    let begin = text.strip_prefix('.').map_or("", |_| "\\&");
    begin.to_owned() + &text.chars().map(letter).collect::<String>()
}

/// The head of a page (man(7)). It has no date, so that the same source always makes the same bytes.
fn head(name: &str, job: &str) -> String {
    let (title, name, job) = (roff(&name.to_uppercase()), roff(name), roff(job));
    let version = concat!("rsoracle ", env!("CARGO_PKG_VERSION"));
    format!(
        ".TH {title} 1 \"\" \"{version}\"\n.SH NAME\n{name} \\- {job}\n.SH SYNOPSIS\n.B rsoracle\n"
    )
}

/// A term in bold, and what it means.
fn term(term: &str, meaning: &str) -> String {
    format!(".TP\n\\fB{}\\fR\n{}\n", roff(term), roff(meaning))
}

fn overview() -> String {
    let list: String = COMMANDS
        .map(|command| term(&call(command), command.job))
        .concat();
    head("rsoracle", "a distributed price oracle")
        + "\\fICOMMAND\\fR [\\fIFLAG\\fR...]\n.SH DESCRIPTION\n"
        + "Each command has a page of its own, such as rsoracle\\-run(1).\n.SH COMMANDS\n"
        + &list
        + &term("help [COMMAND]", "the commands, or one command's flags")
        + &term("--version", "version, commit and target")
}

fn page(command: &Command) -> String {
    let flag = |flag: &Flag| term(&typed(flag), &explanation(flag));
    let flags = grouped(command).into_iter().map(|(title, flags)| {
        let flags: String = flags.into_iter().map(flag).collect();
        match command.groups.is_empty() {
            true => flags,
            false => format!(".SS {}\n{flags}", roff(title)),
        }
    });
    let flags: String = flags.collect();
    let (call, example) = (roff(&call(command)), roff(command.example));
    let mut page = head(&format!("rsoracle-{}", command.name), command.job) + &call;
    if !flags.is_empty() {
        page.push_str(" [\\fIFLAG\\fR...]");
    }
    for (title, text) in [("DESCRIPTION", notes(command.notes)), ("OPTIONS", flags)] {
        if !text.is_empty() {
            page.push_str(&format!("\n.SH {title}\n{}", text.trim_end()));
        }
    }
    page + &format!("\n.SH EXAMPLE\n.nf\n{example}\n.fi\n.SH SEE ALSO\n.BR rsoracle (1)\n")
}

/// A command's notes: sentences, with indented lines as a list of terms.
fn notes(notes: &str) -> String {
    let line = |line: &str| match line.strip_prefix("  ") {
        Some(row) if !row.starts_with(' ') => {
            let (name, meaning) = row.split_once("  ").unwrap_or((row, ""));
            // The meaning may be in the next line.
            term(name, meaning.trim_start()).replace("\n\n", "\n")
        }
        _ => roff(line.trim_start()) + "\n",
    };
    notes.lines().map(line).collect()
}

/// The completion for bash: commands and flags. Everything else may be a path, which bash completes itself.
fn bash() -> String {
    let arm = |command: &Command| {
        let flags = command.flags.iter().map(|flag| format!(" --{}", flag.name));
        let (name, flags) = (command.name, flags.collect::<String>());
        let actions = actions(command)
            .map(|words| format!("        2:{name}:[^-]*|2:{name}:) words='{words}' ;;\n"));
        actions.unwrap_or_default() + &format!("        *:{name}:-*) words='{flags}' ;;\n")
    };
    let (names, arms) = (names(), COMMANDS.map(arm).concat());
    format!(
        r#"_rsoracle() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case $COMP_CWORD:${{COMP_WORDS[1]}}:$word in
        1:*) words='{names} {QUESTIONS}' ;;
        2:help:*) words='{names}' ;;
{arms}    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _rsoracle rsoracle
"#
    )
}

/// Text in single quotes; `quote` is how the shell writes a single quote inside them.
fn quoted(text: &str, quote: &str) -> String {
    format!("'{}'", text.replace('\'', quote))
}

/// The completion for zsh (zshcompsys(1)).
fn zsh() -> String {
    let plain = |text: &str| -> String {
        let letter = |letter: char| match letter {
            '[' | ']' | ':' | '\\' => format!("\\{letter}"),
            _ => letter.to_string(),
        };
        text.chars().map(letter).collect()
    };
    let action = |name| if is_path(name) { "_files" } else { " " };
    let word = |text: String| format!(" \\\n        {}", quoted(&text, "'\\''"));
    let option = |flag: &Flag| {
        let repeats = if flag.repeats { "*" } else { "" };
        let (name, help) = (flag.name, plain(flag.help));
        word(match flag.value {
            "" => format!("{repeats}--{name}[{help}]"),
            value => {
                // Of a value that may be left out, zsh wants two colons.
                let colons = if value.starts_with('[') { "::" } else { ":" };
                let (value, action) = (plain(value), action(value));
                format!("{repeats}--{name}=[{help}]{colons}{value}:{action}")
            }
        })
    };
    let arm = |command: &Command| {
        let options: String = command.flags.iter().map(option).collect();
        let operands = match command.operands {
            "" => String::new(),
            name => word(format!("*:{}:{}", plain(name), action(name))),
        };
        let actions = actions(command).map(|words| word(format!("1:action:({words})")));
        let actions = actions.unwrap_or_default();
        format!(
            "    {}) _arguments{options}{actions}{operands} ;;\n",
            command.name
        )
    };
    let job = |command: &Command| word(format!("{}:{}", command.name, plain(command.job)));
    let (jobs, arms) = (COMMANDS.map(job).concat(), COMMANDS.map(arm).concat());
    format!(
        r#"#compdef rsoracle
local command=$words[2]
local -a commands
commands=({jobs})
if (( CURRENT == 2 )); then
    _describe command commands
    compadd -- {QUESTIONS}
    return
fi
shift words
(( CURRENT-- ))
case $command in
    help) _describe command commands ;;
{arms}esac
"#
    )
}

/// The completion for fish (complete(1)).
fn fish() -> String {
    let text = |text: &str| quoted(&text.replace('\\', "\\\\"), "\\'");
    let of_command = |command: &Command| {
        let name = command.name;
        let begin = format!("complete -c rsoracle -n '__fish_seen_subcommand_from {name}'");
        let flag = |flag: &Flag| {
            let takes = match flag.value {
                value if value.is_empty() || value.starts_with('[') => "",
                value if is_path(value) => " -r -F",
                _ => " -x",
            };
            format!("{begin} -l {}{takes} -d {}\n", flag.name, text(flag.help))
        };
        let flags: String = command.flags.iter().map(flag).collect();
        let paths = match is_path(command.operands) {
            true => format!("{begin} -F\n"),
            false => String::new(),
        };
        let actions = actions(command).map(|words| {
            let none = format!("; and not __fish_seen_subcommand_from {words}'");
            format!(
                "{} -a '{words}'\n",
                begin.replacen(&format!("{name}'"), &format!("{name}{none}"), 1)
            )
        });
        let (job, actions) = (text(command.job), actions.unwrap_or_default());
        format!(
            "complete -c rsoracle -n __fish_use_subcommand -a {name} -d {job}\n{actions}{paths}{flags}"
        )
    };
    format!(
        "complete -c rsoracle -f\n\
         complete -c rsoracle -n __fish_use_subcommand -a '{QUESTIONS}'\n\
         complete -c rsoracle -n '__fish_seen_subcommand_from help' -a '{}'\n{}",
        names(),
        COMMANDS.map(of_command).concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_interpreted_as_markup_or_code() {
        let odd = Command {
            name: "odd",
            job: ".so /etc/passwd",
            notes: "'br\n.rm\n  \\n(.x  'a'\n  far:off\n     .b",
            example: ".ex",
            operands: "…",
            groups: &[],
            flags: &[],
        };
        let page = page(&odd);
        let own = [".TH", ".SH", ".B", ".TP", ".nf", ".fi", ".BR"];
        for line in page.lines() {
            let request = line
                .split(' ')
                .next()
                .expect("a line begins with something");
            let is_text = !line.starts_with(['.', '\'']) && !line.is_empty();
            assert!(is_text || own.contains(&request), "{line:?} in {page}");
        }
        for part in [
            "\nrsoracle\\-odd \\- \\&.so /etc/passwd\n",
            "\nodd \\[u2026]\n",
            "\n\\(aqbr\n\\&.rm\n",
            ".TP\n\\fB\\en(.x\\fR\n\\(aqa\\(aq\n",
            ".TP\n\\fBfar:off\\fR\n\\&.b\n",
            "\n.nf\n\\&.ex\n",
        ] {
            assert!(page.contains(part), "{part:?} in {page}");
        }
        assert_eq!(quoted("it's", "\\'"), r"'it\'s'");
    }
}
