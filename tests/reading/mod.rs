//! Reads the sources: files, their code, and which file uses which.
//!
//! A file uses another if it names an item that is defined there. Re-exports of a `mod.rs` or `lib.rs` (`pub use`) are
//! followed to the definition. Macros, and methods that are called without naming their type, are not seen.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path, such as `src/proof/round.rs`.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

/// Our crates: their names in paths, and their directories.
const CRATES: [(&str, &str); 3] = [
    ("rsoracle_proof", "src/proof/"),
    ("rsoracle_verify", "src/verify/"),
    ("rsoracle", "src/"),
];

impl Source {
    /// The text before the tests, which come last.
    pub fn without_tests(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]");
        end.map_or(&self.text, |end| &self.text[..end])
    }

    /// The code without comments and tests.
    pub fn code(&self) -> String {
        let lines = self.without_tests().lines().map(uncommented);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Number of lines of code.
    pub fn lines(&self) -> usize {
        let code = self.code();
        code.lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// The path of its module, from its crate on.
    pub fn module(&self) -> Vec<String> {
        let (name, folder) = CRATES
            .into_iter()
            .find(|(_, folder)| self.path.starts_with(folder))
            .expect("a file of one of our crates");
        let inside = self.path[folder.len()..].trim_end_matches(".rs");
        let parts = inside
            .split('/')
            .filter(|part| !matches!(*part, "mod" | "lib"));
        [name].into_iter().chain(parts).map(str::to_owned).collect()
    }

    /// Its room; for a crate that is one room, the crate's name.
    pub fn room(&self) -> String {
        let module = self.module();
        match module[0].strip_prefix("rsoracle_") {
            Some(name) => name.to_owned(),
            None => module.get(1).cloned().unwrap_or_default(),
        }
    }

    /// Whether it is the door (`mod.rs`, `lib.rs`) of a room or of a part of one.
    pub fn is_door(&self) -> bool {
        self.path.ends_with("/mod.rs") || self.path.ends_with("/lib.rs")
    }

    /// The longest function: its number of lines, and the line where it begins.
    pub fn longest_function(&self) -> (usize, usize) {
        let lines: Vec<&str> = self.without_tests().lines().collect();
        let mut longest = (0, 0);
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let mut words = line.trim_start().split(' ');
            let before = |word: &&str| matches!(*word, "pub" | "const") || word.starts_with("pub(");
            if words.find(|word| !before(word)) != Some("fn") {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == end);
            longest = longest.max((length.map_or(1, |offset| offset + 1), start + 1));
        }
        longest
    }
}

/// A line without its comment. The slashes of a URL such as `wss://` are not a comment.
fn uncommented(line: &str) -> &str {
    let begins = |at: &usize| !line[..*at].ends_with(':');
    let comment = line.match_indices("//").map(|(at, _)| at).find(begins);
    comment.map_or(line, |at| &line[..at])
}

/// All source files in `src`, except files of unit tests (`tests.rs`).
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().display().to_string();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 80, "most files are found");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Which file uses which, by path.
pub struct Graph {
    modules: BTreeMap<Vec<String>, String>,
    /// Re-exports of doors: from the path of a name there to the path of its definition.
    handed_on: BTreeMap<Vec<String>, Vec<String>>,
    /// The files that each file uses.
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The graph of these files.
    pub fn of(sources: &[Source]) -> Graph {
        let modules = sources
            .iter()
            .map(|source| (source.module(), source.path.clone()));
        let mut graph = Graph {
            modules: modules.collect(),
            handed_on: BTreeMap::new(),
            uses: BTreeMap::new(),
        };
        for source in sources.iter().filter(|source| source.is_door()) {
            for (is_public, path) in imports(&source.code()) {
                let (is_glob, path) = match path.last().map(String::as_str) {
                    Some("*") => (true, path[..path.len() - 1].to_vec()),
                    _ => (false, path),
                };
                if let (true, false, Some(target)) =
                    (is_public, is_glob, graph.absolute(source, &path))
                {
                    let mut name = source.module();
                    name.extend(target.last().cloned());
                    graph.handed_on.insert(name, target);
                }
            }
        }
        for source in sources {
            let code = source.code();
            let paths = imports(&code).into_iter().map(|(_, path)| path);
            let used = paths.chain(mentions(&code));
            let used = used.filter_map(|path| graph.file(&graph.absolute(source, &path)?));
            let used: BTreeSet<String> = used.filter(|file| *file != source.path).collect();
            graph.uses.insert(source.path.clone(), used);
        }
        graph
    }

    /// Resolves a path in a file to a path from its crate on; `None` if the crate is not ours.
    fn absolute(&self, source: &Source, path: &[String]) -> Option<Vec<String>> {
        let mut module = source.module();
        // main.rs is not a module of the library.
        if source.path.ends_with("/main.rs") {
            module.pop();
        }
        let mut rest = path;
        let first = rest.first()?.as_str();
        if CRATES.iter().any(|(name, _)| *name == first) {
            return Some(path.to_vec());
        }
        match first {
            "crate" => {
                module.truncate(1);
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    module.pop();
                    rest = &rest[1..];
                }
            }
            child => {
                let mut inside = module.clone();
                inside.push(child.to_owned());
                if !self.modules.contains_key(&inside) {
                    return None;
                }
            }
        }
        module.extend(rest.iter().cloned());
        Some(module)
    }

    /// The file that defines what a path names.
    fn file(&self, path: &[String]) -> Option<String> {
        for length in (1..=path.len()).rev() {
            if let Some(target) = self.handed_on.get(&path[..length]) {
                return self.file(target);
            }
            if let Some(file) = self.modules.get(&path[..length]) {
                return Some(file.clone());
            }
        }
        None
    }

    /// The file, and all files that it uses, directly or not.
    pub fn closure(&self, root: &str) -> BTreeSet<String> {
        assert!(self.uses.contains_key(root), "{root} is there");
        let mut reached = BTreeSet::from([root.to_owned()]);
        let mut next = vec![root.to_owned()];
        while let Some(file) = next.pop() {
            for used in &self.uses[&file] {
                if reached.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        reached
    }
}

/// The paths that `use` lines import, one for each name, and whether they re-export it.
fn imports(code: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let line = &rest[..at];
        let before = line.rsplit('\n').next().unwrap().trim();
        rest = &rest[at + 4..];
        if !before.is_empty() && !before.starts_with("pub") {
            continue;
        }
        let Some(end) = rest.find(';') else {
            break;
        };
        let tree: String = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let leaves = leaves(&tree);
        found.extend(
            leaves
                .into_iter()
                .map(|path| (before.starts_with("pub"), path)),
        );
        rest = &rest[end..];
    }
    found
}

/// The paths of a tree of imports such as `a::{b, c::d as e}`.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    let parts = |path: &str| -> Vec<String> {
        let path = path.split(" as ").next().unwrap();
        let parts = path.split("::").map(str::trim);
        let named = parts.filter(|part| !part.is_empty() && *part != "self");
        let is_own = path.starts_with("self::");
        let own = is_own.then(|| "self".to_owned());
        own.into_iter().chain(named.map(str::to_owned)).collect()
    };
    let Some(open) = tree.find('{') else {
        return vec![parts(tree)];
    };
    let head = parts(&tree[..open]);
    let inner = &tree[open + 1..tree.rfind('}').expect("it is closed")];
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[from..at].trim();
                from = at + 1;
                // Nothing stands behind the last comma.
                for leaf in leaves(part).into_iter().filter(|_| !part.is_empty()) {
                    found.push([head.clone(), leaf].concat());
                }
            }
            _ => {}
        }
    }
    found
}

/// All paths of at least two parts in the code.
fn mentions(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = code.split(|c| !is_part(c));
    let words = words
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("::"));
    words
        .map(|word| word.split("::").map(str::to_owned).collect())
        .collect()
}
