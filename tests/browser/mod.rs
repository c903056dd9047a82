//! Drives a headless Chromium by its DevTools protocol, over one websocket, without threads.
//!
//! Each test uses a part of this module.
#![allow(dead_code)]

use crate::support::*;
use nanoserde::{DeJson, SerJson};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// What the program is called on Debian, and on Fedora. Debian's command in the path is a script, which would end alone.
const NAMES: [&str; 4] = [
    "/usr/lib/chromium/chromium-headless-shell",
    "chromium-headless-shell",
    "headless_shell",
    "/usr/lib64/chromium-browser/headless_shell",
];

/// A running browser with one page. It ends when this is dropped.
pub struct Browser {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    // Dropped last: it ends what has not ended by itself.
    running: Running,
    /// The folder of its files.
    profile: PathBuf,
    session: String,
    last_id: u64,
    /// Every event of the page so far, as the browser sent it.
    events: Vec<String>,
}

#[derive(DeJson)]
struct Created {
    result: Target,
}

#[derive(DeJson)]
struct Target {
    #[nserde(rename = "targetId")]
    target: Option<String>,
    #[nserde(rename = "sessionId")]
    session: Option<String>,
}

#[derive(DeJson)]
struct Evaluated {
    result: Outcome,
}

#[derive(DeJson)]
struct Outcome {
    result: Value,
}

#[derive(DeJson)]
struct Value {
    value: Option<String>,
    description: Option<String>,
}

fn program() -> &'static str {
    let runs = |name: &&&str| {
        let mut command = Command::new(name);
        command.arg("--version");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    NAMES.iter().find(runs).expect("a headless Chromium")
}

impl Browser {
    /// Starts a browser with an empty page, and further flags.
    pub fn start(flags: &[&str]) -> Browser {
        let profile = scratch("chromium");
        let mut command = Command::new(program());
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--remote-debugging-port=0", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(flags)
            .stdin(Stdio::null());
        let running = start_command(command);
        let url = eventually("the browser listens", || {
            let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            let (port, path) = text.split_once('\n')?;
            Some(format!("ws://127.0.0.1:{port}{}", path.trim_end()))
        });
        let (socket, _) = tungstenite::connect(&url).expect("it speaks DevTools");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(LONG)).unwrap();
        }
        let mut browser = Browser {
            socket,
            running,
            profile,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
        };
        let created = browser.ask("Target.createTarget", "{\"url\":\"about:blank\"}");
        let target = Created::deserialize_json(&created).unwrap().result.target;
        let attach = format!(
            "{{\"targetId\":\"{}\",\"flatten\":true}}",
            target.expect("a page")
        );
        let attached = browser.ask("Target.attachToTarget", &attach);
        let session = Created::deserialize_json(&attached).unwrap().result.session;
        browser.session = session.expect("a session");
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            browser.ask(&format!("{domain}.enable"), "{}");
        }
        browser
    }

    /// Sends a command, and returns the whole answer. Keeps the events that come before it.
    pub fn ask(&mut self, method: &str, parameters: &str) -> String {
        self.last_id += 1;
        let session = match self.session.as_str() {
            "" => String::new(),
            session => format!(",\"sessionId\":\"{session}\""),
        };
        let id = self.last_id;
        let text =
            format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{parameters}{session}}}");
        self.socket.send(Message::text(text)).expect("it is sent");
        let begin = format!("{{\"id\":{id},");
        loop {
            let Message::Text(text) = self.socket.read().expect("the browser answers") else {
                continue;
            };
            if text.starts_with(&begin) {
                assert!(!text.contains("\"error\":{\"code\""), "{method}: {text}");
                return text.to_string();
            }
            self.events.push(text.to_string());
        }
    }

    /// Leads the page to an address.
    pub fn open(&mut self, url: &str) {
        self.ask(
            "Page.navigate",
            &format!("{{\"url\":{}}}", url.to_owned().serialize_json()),
        );
    }

    /// Drags a file over the page and drops it there, as a user does: the page gets events that no script made.
    pub fn drop_file(&mut self, path: &Path) {
        let path = path.to_str().expect("a path in UTF-8").to_owned();
        let data = format!(
            "{{\"items\":[],\"files\":[{}],\"dragOperationsMask\":1}}",
            path.serialize_json()
        );
        for what in ["dragEnter", "dragOver", "drop"] {
            let event = format!("{{\"type\":\"{what}\",\"x\":90,\"y\":90,\"data\":{data}}}");
            self.ask("Input.dispatchDragEvent", &event);
        }
    }

    /// The value of an expression as text. It may be a promise.
    pub fn value(&mut self, expression: &str) -> String {
        let whole = format!("(async () => String(await ({expression})))()");
        let parameters = format!(
            "{{\"expression\":{},\"awaitPromise\":true,\"returnByValue\":true}}",
            whole.serialize_json()
        );
        let answer = self.ask("Runtime.evaluate", &parameters);
        let Evaluated { result } = Evaluated::deserialize_json(&answer)
            .unwrap_or_else(|error| panic!("{expression}: {error}: {answer}"));
        assert!(
            !answer.contains("\"exceptionDetails\""),
            "{expression}: {answer}"
        );
        let Value { value, description } = result.result;
        value.or(description).expect("a value")
    }

    /// Waits until an expression has this value, and panics with the page's text if it never has.
    pub fn until(&mut self, expression: &str, expected: &str) {
        let mut last = String::new();
        let what = format!("{expression} is {expected:?}");
        let guarded =
            format!("(() => {{ try {{ return {expression}; }} catch {{ return ''; }} }})()");
        within(LONG / 2, &what, || {
            let value = self.value(&guarded);
            if value != last {
                eprintln!("{expression}: {value:?}");
                last.clone_from(&value);
            }
            (value == expected).then_some(())
        });
    }

    /// The text of the element that a selector finds first.
    pub fn text(&mut self, selector: &str) -> String {
        self.value(&format!("document.querySelector('{selector}').innerText"))
    }

    /// How many elements a selector finds.
    pub fn count(&mut self, selector: &str) -> usize {
        let count = self.value(&format!("document.querySelectorAll('{selector}').length"));
        count.parse().expect("a number")
    }

    /// The events of a method so far.
    pub fn events(&self, method: &str) -> Vec<&String> {
        let is = format!("{{\"method\":\"{method}\",");
        let found = self.events.iter().filter(|event| event.starts_with(&is));
        found.collect()
    }

    /// What the page wrote to the console, what failed in it, and what the browser found wrong with it.
    pub fn complaints(&mut self) -> Vec<String> {
        // Whatever happened before this is known after it.
        self.value("1");
        let methods = [
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Audits.issueAdded",
        ];
        // The browser also remarks on what is no error.
        let counts = |event: &String| {
            !event.contains("Audits.issueAdded") || event.contains("ContentSecurityPolicyIssue")
        };
        let found = methods.iter().flat_map(|method| self.events(method));
        found.filter(|event| counts(event)).cloned().collect()
    }

    /// The addresses that were asked for, except those that begin so.
    pub fn requests_except(&self, begins: &[&str]) -> Vec<String> {
        let urls = self.events("Network.requestWillBeSent").into_iter();
        let urls = urls.filter_map(|event| {
            let (_, rest) = event.split_once("\"request\":{\"url\":\"")?;
            rest.split('"').next()
        });
        let foreign = urls.filter(|url| !begins.iter().any(|begin| url.starts_with(begin)));
        foreign.map(str::to_owned).collect()
    }
}

impl Drop for Browser {
    /// Lets the browser end its processes and put its files in order, unless the test has failed.
    fn drop(&mut self) {
        let close = "{\"id\":0,\"method\":\"Browser.close\"}";
        if !std::thread::panicking() && self.socket.send(Message::text(close)).is_ok() {
            eventually("the browser ends", || self.running.ended().then_some(()));
            let _ = std::fs::remove_dir_all(&self.profile);
        }
    }
}
