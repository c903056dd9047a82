//! Counts lines of code in Rust and in C, and the keyword `unsafe`.
//!
//! Comments do not count. Strings count as code, but their words do not. A crate is counted as it is shipped: `cfg` and macros
//! are not evaluated.

use std::path::Path;

/// The counts of a file or a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Lines of Rust code.
    pub rust_lines: usize,
    /// Lines of code in C, its headers, and assembler.
    pub c_lines: usize,
    /// Number of keywords `unsafe` in Rust.
    pub unsafes: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.rust_lines += other.rust_lines;
        self.c_lines += other.c_lines;
        self.unsafes += other.unsafes;
    }
}

/// Counts a directory, without what is never built into a program: tests, benchmarks, examples, and the programs and
/// documents that OpenSSL ships beside its libraries.
pub fn folder(path: &Path) -> Count {
    const LEFT_OUT: [&str; 10] = [
        "tests", "test", "benches", "examples", "fuzz", "doc", "docs", "demos", "apps", "target",
    ];
    let mut count = Count::default();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !LEFT_OUT.contains(&name.as_str()) {
                count += folder(&path);
            }
        } else {
            count += file(&path);
        }
    }
    count
}

/// Counts one file, by its extension.
pub fn file(path: &Path) -> Count {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let is_rust = match ending {
        Some("rs") => true,
        Some("c" | "h" | "inc" | "S" | "s") => false,
        _ => return Count::default(),
    };
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let code = code(&text, is_rust);
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    if is_rust {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '#');
        Count {
            rust_lines: lines,
            unsafes: words.filter(|word| *word == "unsafe").count(),
            ..Count::default()
        }
    } else {
        Count {
            c_lines: lines,
            ..Count::default()
        }
    }
}

/// A text without its comments, and with a placeholder for every string and character literal.
pub fn code(text: &str, is_rust: bool) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest, is_rust)
        } else if let Some(length) = literal(rest, is_rust, code.chars().last()) {
            code.push('"');
            length
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        // Keep line breaks.
        code.extend(rest[..taken].chars().filter(|c| *c == '\n'));
        rest = &rest[taken..];
    }
    code
}

/// The length of a comment that begins here. In Rust, comments nest.
fn block_comment(text: &str, nests: bool) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else if here.starts_with(b"/*") && (nests || depth == 0) {
            depth += 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a string or character literal that begins here, if one does; `before` is the text in front of it.
fn literal(text: &str, is_rust: bool, before: Option<char>) -> Option<usize> {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if is_rust && !in_word {
        let raw = text
            .strip_prefix('b')
            .or(text.strip_prefix('c'))
            .unwrap_or(text);
        if let Some(rest) = raw.strip_prefix('r') {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            if rest[hashes..].starts_with('"') {
                let begins = text.len() - rest.len() + hashes + 1;
                let end = format!("\"{}", "#".repeat(hashes));
                let inside = text[begins..].find(&end);
                return Some(inside.map_or(text.len(), |at| begins + at + end.len()));
            }
        }
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    // A lifetime has no closing quote.
    if is_rust && quote == '\'' && !text[1..].starts_with('\\') {
        let length = text[1..].chars().next()?.len_utf8() + 1;
        return text[length..].starts_with('\'').then_some(length + 1);
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            // An apostrophe in an assembler comment ends with its line.
            '\n' if !is_rust && quote == '\'' => return None,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}
