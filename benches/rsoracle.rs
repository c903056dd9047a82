//! `make bench`: measures how precise, fast and small rsoracle is on this machine. Prints each figure beside its goal and, if
//! there is a comparison, beside a peer that ran in the same minute.
//!
//! `cargo bench` runs everything in about six minutes; `cargo bench -- NAME …` runs single sections. There are no threads
//! here either: whatever runs concurrently is a process, and a part without its own program is this binary, started again
//! with `role NAME …`. A missed goal is not a failure: figures are for reading, and the tests assert.

#[path = "../tests/served/mod.rs"]
mod served;
#[path = "../tests/signed/mod.rs"]
mod signed;
#[path = "../tests/support/mod.rs"]
mod support;

#[path = "sections/checking.rs"]
mod checking;
#[path = "sections/connected.rs"]
mod connected;
#[path = "sections/feeds.rs"]
mod feeds;
#[path = "sections/figures.rs"]
mod figures;
#[path = "sections/instants.rs"]
mod instants;
#[path = "sections/machine.rs"]
mod machine;
#[path = "sections/network.rs"]
mod network;
#[path = "sections/prototype.rs"]
mod prototype;
#[path = "sections/proxy.rs"]
mod proxy;
#[path = "sections/reports.rs"]
mod reports;
#[path = "sections/rounds.rs"]
mod rounds;
#[path = "sections/serve.rs"]
mod serve;
#[path = "sections/size.rs"]
mod size;
#[path = "sections/start.rs"]
mod start;
#[path = "sections/streams.rs"]
mod streams;
#[path = "sections/time.rs"]
mod time;

use figures::Table;

/// A section: its name, its subject, and the function that runs it.
type Section = (&'static str, &'static str, fn(&mut Table));
const SECTIONS: [Section; 11] = [
    (
        "instants",
        "how precisely a process wakes up at an instant",
        instants::show,
    ),
    (
        "connected",
        "how far apart five collectors send their requests, over TLS",
        connected::show,
    ),
    (
        "network",
        "the same through a network of 40±8 ms each way, beside a prototype",
        network::show,
    ),
    ("start", "from exec to the first action", start::show),
    (
        "time",
        "from start to first sample, and from last observation to result",
        time::show,
    ),
    (
        "checking",
        "cost of checking an observation, from received bytes to accepted",
        checking::show,
    ),
    (
        "streams",
        "what a message costs from socket to price",
        streams::show,
    ),
    ("reports", "what proof costs", reports::show),
    ("size", "memory, CPU, and many collectors", size::show),
    (
        "feeds",
        "20 feeds over seven collectors, beside one feed over the same",
        feeds::show,
    ),
    (
        "serve",
        "reports over HTTP: requests, a cache, many streams, a long journal",
        serve::show,
    ),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Name resolution runs in a process of its own, as in the program: `resolve NAME` starts this binary again.
    if let [resolve, name] = words.as_slice()
        && resolve == "resolve"
    {
        print!("{}", rsoracle::system::resolve::answer(name).0);
        return;
    }
    if let [role, name, rest @ ..] = words.as_slice()
        && role == "role"
    {
        return match name.as_str() {
            "wait" => instants::role(rest),
            "prototype" => prototype::role(rest),
            "proxy" => proxy::role(rest),
            _ => panic!("no role is called {name}"),
        };
    }
    // `cargo bench` passes --bench. `cargo test --benches` does not: it only checks that this builds.
    if !words.iter().any(|word| word == "--bench") {
        return;
    }
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let known = |name: &&String| SECTIONS.iter().any(|section| section.0 == name.as_str());
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = SECTIONS.iter().map(|section| section.0).collect();
        eprintln!(
            "there is no section {unknown}; the sections are {}",
            names.join(", ")
        );
        std::process::exit(2);
    }
    println!("rsoracle bench, {}", machine::description());
    let mut table = Table::default();
    for (name, about, show) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|word| *word == name) {
            table.heading(name, about);
            let before = machine::Cores::now();
            show(&mut table);
            table.remark(&machine::Cores::since(before));
        }
    }
    table.sum_up();
}
