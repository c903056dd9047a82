//! The image of docs/Dockerfile, built without Docker: reads its instructions, and copies its files to an empty root.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::{copy_program, scratch};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments to add to [`Image::run`] for one short round of recorded prices on free ports.
#[rustfmt::skip]
pub const ONE_ROUND: [&str; 12] = [
    "--source", "embedded:BTCUSDT", "--rounds", "1", "--samples", "1", "--interval", "1s", "--control-port", "0", "--data-port", "0",
];

/// The contents of docs/Dockerfile.
pub struct Image {
    /// Files and directories to copy: from, to.
    copies: Vec<(String, String)>,
    folder: String,
    user: String,
    entry: String,
    /// The default arguments (CMD).
    pub run: Vec<String>,
    /// The arguments of the health check.
    pub health: Vec<String>,
}

/// The words of an exec form, such as `["/rsoracle", "run"]`.
fn exec_form(text: &str) -> Vec<String> {
    let inner = text
        .strip_prefix("[\"")
        .and_then(|rest| rest.strip_suffix("\"]"));
    let words = inner.expect("an exec form").split("\", \"");
    words.map(str::to_owned).collect()
}

impl Image {
    /// Reads docs/Dockerfile.
    pub fn read() -> Image {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/Dockerfile");
        let text = std::fs::read_to_string(path).unwrap();
        let all = |word: &str| -> Vec<&str> {
            let of_word = |line| str::strip_prefix(line, word)?.strip_prefix(' ');
            text.lines().filter_map(of_word).collect()
        };
        assert_eq!(all("FROM"), ["scratch"]);
        let user = all("USER")[0].to_owned();
        let owner = format!("--chown={user} ");
        let copy = |line: &&str| {
            let line = line.strip_prefix(&owner).unwrap_or(line);
            let (from, to) = line.split_once(' ').expect("COPY takes two names");
            (from.to_owned(), to.to_owned())
        };
        let [entry] = &exec_form(all("ENTRYPOINT")[0])[..] else {
            panic!("the entry point is one word")
        };
        let (_, health) = all("HEALTHCHECK")[0]
            .split_once(" CMD ")
            .expect("a command");
        let health = exec_form(health);
        assert_eq!(&health[0], entry, "no shell");
        Image {
            copies: all("COPY").iter().map(copy).collect(),
            folder: all("WORKDIR")[0].to_owned(),
            user,
            entry: entry.clone(),
            run: exec_form(all("CMD")[0]),
            health: health[1..].to_vec(),
        }
    }

    /// Copies the files to a fresh root directory.
    pub fn lay_out(&self, binary: &Path, certificates: &str) -> PathBuf {
        let root = scratch("root");
        for (from, to) in &self.copies {
            let to = root.join(to.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            match from.as_str() {
                "rsoracle" => copy_program(binary, to),
                "ca-certificates.crt" => drop(std::fs::copy(certificates, to).unwrap()),
                "data" => std::fs::create_dir(to).unwrap(),
                other => panic!("docs/Dockerfile copies {other}, which the test does not know"),
            }
        }
        root
    }

    /// The program, run as the image's user, with this root and in the image's directory. A test that calls this needs
    /// namespaces.
    pub fn command(&self, root: &Path) -> Command {
        let (user, group) = self
            .user
            .split_once(':')
            .expect("USER names user and group");
        assert_ne!((user, group), ("0", "0"), "not root");
        let place = [
            format!("--map-user={user}"),
            format!("--map-group={group}"),
            format!("--root={}", root.display()),
            format!("--wd={}", self.folder),
        ];
        let mut command = Command::new("unshare");
        command
            .args(place)
            .arg(&self.entry)
            .env_clear()
            .stdin(Stdio::null());
        command
    }
}
