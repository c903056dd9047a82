//! docs/compose.yaml and docs/kubernetes: they fit their schemas, their command lines are ours, and the processes that they
//! describe make prices together.

mod support;

use rsoracle::flags::args;
use rsoracle::flags::tables::COMMANDS;
use rsoracle::serve::ServeSettings;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::*;

const SLOTS: usize = 7;
const SOURCES: [&str; SLOTS] = [
    "kraken:BTC/USD",
    "coinbase:BTC-USD",
    "bitstamp:btcusd",
    "gemini:btcusd",
    "okx:BTC-USDT",
    "bybit:BTCUSDT",
    "binance-stream:BTCUSDC",
];

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files for Kubernetes.
fn manifests() -> Vec<PathBuf> {
    let folder = docs("kubernetes").read_dir().expect("a folder");
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The command lines of rsoracle in a file, each the list of an exec form, without the program's name.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        let line = line.trim_start();
        let forms = ["command: [", "args: [", "test: [\"CMD\", \"/rsoracle\", "];
        let list = forms.iter().find_map(|form| line.strip_prefix(form))?;
        let list = list.strip_prefix('"')?.strip_suffix("\"]");
        let words = list.expect("a list of quoted words").split("\", \"");
        Some(words.map(str::to_owned).collect())
    };
    let ours = |words: &Vec<String>| !words[0].starts_with('-');
    text.lines().filter_map(words).filter(ours).collect()
}

/// The files of an oracle of seven collectors and two aggregators, made as docs/OPERATING.md says.
struct Desk {
    dir: PathBuf,
    /// The aggregators' public keys.
    keys: [String; 2],
}

impl Desk {
    /// `place` comes before each source: `embedded-` for recorded prices.
    fn set(place: &str) -> Desk {
        let dir = scratch("x").parent().expect("a folder").to_owned();
        let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
        let new = [
            "roster",
            "new",
            "BTC/USD",
            "--samples",
            "2",
            "--interval",
            "200ms",
            "--every",
            "2s",
        ];
        let since = [
            "--first-start",
            "1970-01-01T00:00:00Z",
            "--out",
            &path("draft.toml"),
        ];
        said(&[&new[..], &since].concat());
        let mut assemble = vec![
            "roster".to_owned(),
            "assemble".to_owned(),
            path("draft.toml"),
        ];
        for (slot, source) in SOURCES.iter().enumerate() {
            let (key, seat) = (
                path(&format!("slot-{slot}.key")),
                path(&format!("slot-{slot}.seat")),
            );
            let source = format!("{place}{source}");
            said(&["keygen", &key]);
            said(&[
                "roster", "seat", "--key", &key, "--source", &source, "--out", &seat,
            ]);
            assemble.push(seat);
        }
        assemble.extend(["--out".to_owned(), path("roster.toml")]);
        said(&assemble.iter().map(String::as_str).collect::<Vec<_>>());
        let keys = [0, 1].map(|number| {
            let key = said(&["keygen", &path(&format!("aggregator-{number}.key"))]);
            key.trim().to_owned()
        });
        Desk { dir, keys }
    }

    /// The words of a command line, with the files of a container replaced by those of this desk: its key, and its data.
    fn placed(&self, words: &[String], key: &str, data: &Path) -> Vec<String> {
        let path = |name: &str| self.dir.join(name).to_str().expect("UTF-8").to_owned();
        let data = data.to_str().expect("UTF-8");
        let mut pairs = vec![
            (
                "=/etc/rsoracle/roster.toml".to_owned(),
                format!("={}", path("roster.toml")),
            ),
            (
                "=/roster.toml".to_owned(),
                format!("={}", path("roster.toml")),
            ),
            ("=/data".to_owned(), format!("={data}")),
        ];
        for own in [
            "/run/secrets/key",
            "/run/keys/slot.key",
            "/run/keys/aggregator.key",
        ] {
            pairs.push((own.to_owned(), path(key)));
        }
        for (number, public) in self.keys.iter().enumerate() {
            pairs.push((format!("${{AGGREGATOR_{number}:?}}"), public.clone()));
            pairs.push((format!("$(AGGREGATOR_{number})"), public.clone()));
        }
        let placed = words.iter().map(|word| {
            let mut word = word.clone();
            for (from, to) in &pairs {
                word = word.replace(from, to);
            }
            // An operand.
            word.strip_prefix("/data")
                .map_or(word.clone(), |rest| format!("{data}{rest}"))
        });
        placed.collect()
    }

    /// A folder for the data of a service.
    fn data(&self, service: &str) -> PathBuf {
        let path = self.dir.join(service);
        fs::create_dir_all(&path).expect("a folder");
        path
    }
}

/// The standard output of a command, which must succeed.
fn said(words: &[&str]) -> String {
    let done = run(words);
    assert_eq!(
        done.code,
        Some(0),
        "{words:?}: {}{}",
        done.stdout,
        done.stderr
    );
    done.stdout
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The command lines whose first word is this.
fn of<'a>(lines: &'a [Vec<String>], command: &str) -> &'a [String] {
    let mut found = lines.iter().filter(|words| words[0] == command);
    let line = found
        .next()
        .unwrap_or_else(|| panic!("no '{command}' in {lines:?}"));
    assert!(found.next().is_none(), "one line of '{command}'");
    line
}

#[test]
fn every_command_line_in_the_files_is_accepted() {
    let desk = Desk::set("");
    let pods: String = manifests().iter().map(|path| read(path)).collect();
    for (text, roles) in [
        (
            read(&docs("compose.yaml")),
            &["collect", "aggregate", "verify", "serve", "follow", "relay"][..],
        ),
        (pods, &["aggregate", "serve", "collect", "relay"]),
    ] {
        let lines = command_lines(&text);
        assert_eq!(
            lines.iter().map(|words| &*words[0]).collect::<Vec<_>>(),
            roles
        );
        for words in &lines {
            let command = COMMANDS.iter().find(|command| command.name == words[0]);
            let command = command.unwrap_or_else(|| panic!("{words:?}"));
            let given = args::parse(command, &words[1..]);
            given.unwrap_or_else(|usage| panic!("{words:?}: {}", usage.0));
        }
        for (name, key) in [("collect", "slot-3.key"), ("aggregate", "aggregator-1.key")] {
            let mut words = desk.placed(of(&lines, name), key, &desk.data("check"));
            words.push("--check".to_owned());
            let page = said(&strs(&words));
            assert!(page.contains("\nroster digest "), "{page}");
        }
        let words = of(&lines, "serve");
        let command = COMMANDS.iter().find(|command| command.name == "serve");
        let given = args::parse(command.unwrap(), &words[1..]).expect("it was accepted");
        ServeSettings::from_flags(&given).unwrap_or_else(|usage| panic!("{words:?}: {}", usage.0));
    }
}

/// What the services of others read is there, and names our services and their ports.
#[test]
fn the_files_beside_compose_are_there_and_fit_it() {
    let compose = read(&docs("compose.yaml"));
    assert!(compose.contains("\"./alerts.yml:") && docs("alerts.yml").is_file());
    for name in ["prometheus.yml", "grafana.yml"] {
        let text = read(&docs(name));
        assert!(compose.contains(&format!("\"./{name}:")), "{name}");
        let places = text.split(['"', ' ', '/']).filter_map(|word| {
            let (host, port) = word.trim().split_once(':')?;
            port.parse::<u16>().ok().map(|port| (host, port))
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), 1, "{text}");
        for (host, port) in places {
            let (_, service) = compose.split_once(&format!("\n  {host}:\n")).expect(host);
            let service = service.split("\n\n").next().unwrap_or_default();
            assert!(service.contains(&format!(":{port}\"")), "{host} {port}");
        }
    }
}

/// What compose.yaml starts, started: but for ports and files, which are this machine's, from its own command lines.
#[test]
fn the_services_of_compose_make_prices_and_their_health_checks_succeed() {
    let desk = Desk::set("embedded-");
    let lines = command_lines(&read(&docs("compose.yaml")));
    let (_exchange, url) = exchange(&[]);
    let free = ["--control-port=0", "--data-port=0"];
    let aggregators = [0, 1].map(|number| {
        let name = format!("aggregator-{number}");
        let words = desk.placed(
            of(&lines, "aggregate"),
            &format!("{name}.key"),
            &desk.data(&name),
        );
        let local = words
            .iter()
            .map(|word| word.replace("0.0.0.0", "127.0.0.1"));
        let words: Vec<String> = local.collect();
        start(&[&strs(&words)[..], &free].concat())
    });
    let places = aggregators.each_ref().map(|running| {
        let (control, data) = running.channels();
        format!("127.0.0.1:{},{}", control.port(), data.port())
    });
    let collectors: Vec<Running> = (0..SLOTS)
        .map(|slot| {
            let data = desk.data(&format!("collector-{slot}"));
            let words = desk.placed(of(&lines, "collect"), &format!("slot-{slot}.key"), &data);
            let placed = words.iter().map(|word| {
                let word = word.replace("=aggregator-0@", &format!("={}@", places[0]));
                word.replace("=aggregator-1@", &format!("={}@", places[1]))
            });
            let words: Vec<String> = placed.collect();
            start(&[&strs(&words)[..], &["--endpoint", &url]].concat())
        })
        .collect();
    for number in [0, 1] {
        let data = desk.data(&format!("aggregator-{number}"));
        let words = desk.placed(of(&lines, "verify"), "", &data);
        eventually("the aggregator is healthy", || {
            (run(&strs(&words)).code == Some(0)).then_some(())
        });
    }
    let words = desk.placed(of(&lines, "serve"), "", &desk.data("aggregator-0"));
    let local = words.iter().map(|word| match word.split_once("=0.0.0.0:") {
        Some((flag, _)) => format!("{flag}=127.0.0.1:0"),
        None => word.clone(),
    });
    let words: Vec<String> = local.collect();
    let serve = start(&strs(&words));
    let place = eventually("it listens", || {
        let text = serve.stdout();
        let (line, _) = text.split_once('\n')?;
        line.strip_prefix("listening on ").map(str::to_owned)
    });
    let words = desk.placed(of(&lines, "follow"), "", &desk.dir);
    let local = words
        .iter()
        .map(|word| word.replace("http://127.0.0.1:8090", &place));
    let words: Vec<String> = local.collect();
    assert!(words.contains(&place), "{words:?}");
    eventually("the server is healthy", || {
        (run(&strs(&words)).code == Some(0)).then_some(())
    });
    drop(collectors);
}

#[test]
#[ignore = "needs docker-compose"]
fn compose_accepts_the_file_and_each_service_has_its_own_key_and_no_right_too_many() {
    let config = |path: &Path, keys: &[(&str, &str)]| {
        let mut command = Command::new("docker-compose");
        command.arg("-f").arg(path).arg("config");
        for name in ["AGGREGATOR_0", "AGGREGATOR_1"] {
            command.env_remove(name);
        }
        start_command({
            command.envs(keys.iter().copied());
            command
        })
        .finish()
    };
    let keys = [("AGGREGATOR_0", "00aa"), ("AGGREGATOR_1", "11bb")];
    let file = docs("compose.yaml");
    let done = config(&file, &keys);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Without a key, nothing starts.
    let lacks = config(&file, &keys[..1]);
    assert!(
        lacks.code != Some(0) && lacks.stderr.contains("AGGREGATOR_1"),
        "{}",
        lacks.stderr
    );
    // The schema is looked at.
    let bent = scratch("compose.yaml");
    fs::write(
        &bent,
        read(&file).replace("read_only: true", "read_olny: true"),
    )
    .unwrap();
    let done_bent = config(&bent, &keys);
    assert!(
        done_bent.code != Some(0) && done_bent.stderr.contains("read_olny"),
        "{}",
        done_bent.stderr
    );
    let (_, services) = done.stdout.split_once("\nservices:\n").expect("services");
    let (services, _) = services.split_once("\nversion").unwrap_or((services, ""));
    let (mut sources, mut ours) = (Vec::new(), 0);
    // A service begins at two blanks, its settings at four.
    let deep = services.replace("\n    ", "\n\t");
    for service in deep.split("\n  ") {
        if service.contains("image: rsoracle") {
            ours += 1;
            for right in [
                "read_only: true",
                "init: true",
                "user: 65534:65534",
                "- ALL",
                "no-new-privileges:true",
            ] {
                assert!(service.contains(right), "{right}: {service}");
            }
        }
        sources.extend(
            service
                .lines()
                .filter_map(|line| line.trim().strip_prefix("- source: ").map(str::to_owned)),
        );
    }
    assert_eq!(ours, SLOTS + 4, "{services}");
    let mut expected: Vec<String> = (0..SLOTS).map(|slot| format!("slot-{slot}")).collect();
    expected.extend(["aggregator-0".to_owned(), "aggregator-1".to_owned()]);
    sources.sort();
    expected.sort();
    assert_eq!(sources, expected, "each key is in one service");
}

#[test]
#[ignore = "needs python"]
fn the_files_for_kubernetes_fit_its_schemas_and_pods_have_no_right_too_many() {
    let python = std::env::var_os("RSORACLE_PYTHON");
    let python = python.expect("RSORACLE_PYTHON names a Python that has kubernetes-validate");
    let program = Path::new(&python).with_file_name("kubernetes-validate");
    let check = |files: &[PathBuf]| {
        let mut command = Command::new(&program);
        command.arg("--strict").args(files);
        start_command(command).finish()
    };
    let files = manifests();
    let done = check(&files);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let bent = scratch("bent.yaml");
    for path in &files {
        let text = read(path);
        let pods = text.matches("shareProcessNamespace: true").count();
        let containers = text.matches("image: registry.example/rsoracle:").count();
        for (right, count) in [
            ("runAsNonRoot: true", pods),
            ("type: RuntimeDefault", pods),
            ("fsGroup: 65534", pods),
            ("automountServiceAccountToken: false", pods),
            ("readOnlyRootFilesystem: true", containers),
            ("allowPrivilegeEscalation: false", containers),
            ("drop: [ALL]", containers),
        ] {
            assert_eq!(
                text.matches(right).count(),
                count,
                "{right} in {}",
                path.display()
            );
        }
        let secrets = text.matches("secretName: ").count();
        assert_eq!(text.matches("defaultMode: 0440").count(), secrets);
        fs::write(&bent, text.replacen("metadata:", "metadaat:", 1)).unwrap();
        assert_ne!(
            check(std::slice::from_ref(&bent)).code,
            Some(0),
            "{}",
            path.display()
        );
    }
}
