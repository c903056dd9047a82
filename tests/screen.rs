//! What `rsoracle run` shows on a terminal: the real binary in tmux(1), a terminal that wraps lines anew when it is resized, and
//! in a shell with job control.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use support::*;

/// Rounds of recorded prices of nine exchanges, long enough to be looked at while samples are taken.
const NINE: &str = "--sources embedded-diverse --every 3s --samples 6 --interval 300ms";
/// Part of the display's first line.
const HEADLINE: &str = "  next in ";
/// What a line begins with that needs attention, after the mark of recorded prices.
const LOOK: &str = "embedded ! ";
/// The characters of a sparkline.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A terminal of its own, without a window. It ends with all that runs in it when it is dropped.
struct Terminal {
    socket: PathBuf,
    /// Where standard output of [`Terminal::run`] goes.
    out: PathBuf,
}

impl Terminal {
    /// A terminal of this size, whose first process runs a shell command.
    fn new((rows, columns): (usize, usize), command: &str) -> Terminal {
        let (socket, settings) = (scratch("tmux"), scratch("tmux.conf"));
        std::fs::write(&settings, "set -g status off\nset -g remain-on-exit on\n").unwrap();
        let terminal = Terminal {
            socket,
            out: scratch("out"),
        };
        let size = [columns, rows].map(|number| number.to_string());
        let [columns, rows] = size.each_ref().map(String::as_str);
        let settings = settings.to_str().unwrap();
        let begin = [
            "-f",
            settings,
            "new-session",
            "-d",
            "-x",
            columns,
            "-y",
            rows,
        ];
        let command = command.replace("OUT", &format!("'{}'", terminal.out.display()));
        terminal.tmux(&[&begin[..], &[&command]].concat());
        terminal
    }

    /// A terminal with `rsoracle run` and these flags. Standard output is a file, as with `> prices`.
    fn run(size: (usize, usize), environment: &str, flags: &str) -> Terminal {
        Terminal::new(
            size,
            &format!("exec env {environment} {} > OUT", of_run(flags)),
        )
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(args);
        for name in ["TMUX", "NO_COLOR", "HTTPS_PROXY", "https_proxy"] {
            command.env_remove(name);
        }
        let output = command.output().expect("tmux runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {args:?}: {said}");
        String::from_utf8(output.stdout).expect("tmux tells UTF-8")
    }

    fn resize(&self, (rows, columns): (usize, usize)) {
        let size = [columns, rows].map(|number| number.to_string());
        self.tmux(&["resize-window", "-x", &size[0], "-y", &size[1]]);
    }

    /// Types a line.
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// The lines on the screen, without blanks at their ends.
    fn lines(&self) -> Vec<String> {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Waits until the screen shows what is looked for.
    fn shows<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        eventually(what, || {
            std::thread::sleep(Duration::from_millis(50));
            look(&self.lines())
        })
    }

    /// The process id of the first process.
    fn id(&self) -> u32 {
        let id = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        id.trim().parse().expect("a process id")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen:\n{}\n---", self.lines().join("\n"));
        }
        let kill = ["-S", self.socket.to_str().unwrap(), "kill-server"];
        let _ = Command::new("tmux").args(kill).output();
    }
}

/// The shell command for `rsoracle run` on free ports.
fn of_run(flags: &str) -> String {
    let binary = rsoracle().get_program().to_str().unwrap().to_owned();
    format!("'{binary}' run --control-port 0 --data-port 0 {flags}")
}

/// The display, if the screen has one and nothing of an older one: from its first line to the line of the last rounds, which
/// has the cursor below it.
fn display(lines: &[String]) -> Option<Vec<String>> {
    let heads = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains(HEADLINE));
    let [(from, _)] = heads.collect::<Vec<_>>()[..] else {
        return None;
    };
    let ends = lines.iter().enumerate().filter(|(_, line)| is_rounds(line));
    let [(to, _)] = ends.collect::<Vec<_>>()[..] else {
        return None;
    };
    let below = lines.get(to + 1..)?.iter().all(String::is_empty);
    let above = lines[..from]
        .iter()
        .any(|line| line.contains(" ms  ") || line.contains("… and "));
    (below && !above && to > from).then(|| lines[from..=to].to_vec())
}

fn is_rounds(line: &str) -> bool {
    line.trim_start_matches("embedded")
        .trim_start()
        .starts_with("rounds ")
}

/// Whether a display has a line for each of the nine sources, in order.
fn has_nine(lines: &[String]) -> bool {
    let sources = lines.get(2..11).into_iter().flatten().enumerate();
    let is_of = |(index, line): (usize, &String)| line.contains(&format!(" {index} embedded-"));
    lines.len() == 12 && sources.into_iter().all(is_of)
}

/// The same, each with all that is shown of a source. Some names are short.
fn is_whole(lines: &[String]) -> bool {
    let sources = lines.get(2..11).into_iter().flatten().enumerate();
    let is_of = |(index, line): (usize, &String)| {
        let parts = [&format!("embedded   {index} "), ".", " % ", "s  "];
        parts.iter().all(|part| line.contains(*part)) && line.ends_with(BLOCKS)
    };
    lines.len() == 12 && sources.into_iter().all(is_of)
}

#[test]
#[ignore = "needs tmux"]
fn a_terminal_of_any_size_shows_every_source_the_countdown_and_the_last_rounds() {
    let terminal = Terminal::run((24, 80), "", NINE);
    let lines = terminal.shows("a whole display after some rounds", |lines| {
        let lines = display(lines)?;
        let rounds = lines.last()?.matches(':').count() / 2;
        (is_whole(&lines) && rounds == 3).then_some(lines)
    });
    assert_eq!(lines.len(), 12, "{lines:#?}");
    assert!(lines[0].starts_with("embedded   BTC/USD 8"), "{lines:#?}");
    let titles: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(titles, ["embedded", "source", "last", "deviation", "late"]);
    assert!(lines[2].contains(" 0 coinbase "), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.contains("collector")),
        "{lines:#?}"
    );
    // Narrower: this terminal wraps the lines of the display to twice as many.
    let sampling = |lines: &[String]| {
        let lines = display(lines)?;
        lines[0].contains(" of 6").then_some(lines)
    };
    terminal.shows("samples being taken", sampling);
    terminal.resize((15, 60));
    let lines = terminal.shows("a whole display in 60 columns", |lines| {
        let lines = display(lines)?;
        let fits = lines.iter().all(|line| line.chars().count() <= 60);
        (fits && is_whole(&lines)).then_some(lines)
    });
    assert_eq!(lines.len(), 12, "{lines:#?}");
    assert!(
        lines[11].matches(':').count() >= 4,
        "two rounds: {lines:#?}"
    );
    // Fewer rows than sources.
    terminal.shows("samples being taken", sampling);
    terminal.resize((10, 40));
    let lines = terminal.shows("a display in 40 columns", |lines| {
        let lines = display(lines)?;
        let more = lines.get(lines.len().checked_sub(2)?)?;
        more.contains("… and 3 more").then_some(lines)
    });
    assert_eq!(lines.len(), 9, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 40),
        "{lines:#?}"
    );
    terminal.resize((30, 120));
    // What had scrolled away may come back above.
    terminal.shows("a whole display in 120 columns", |lines| {
        let at = lines.iter().rposition(|line| line.contains(HEADLINE))?;
        let lines = display(&lines[at..])?;
        (is_whole(&lines) && lines[2].contains("-coinbase:BTC")).then_some(())
    });
}

#[test]
#[ignore = "needs tmux"]
fn nothing_is_left_of_a_display_that_the_terminal_has_wrapped_to_more_rows() {
    let terminal = Terminal::run((50, 100), "", NINE);
    let newest = |lines: &[String]| {
        let at = lines.iter().rposition(|line| line.contains(HEADLINE))?;
        display(&lines[at..]).filter(|lines| is_whole(lines))
    };
    // If the machine stops for a second just then, the display is drawn below, as after Ctrl-Z.
    for _ in 0..5 {
        terminal.resize((50, 100));
        terminal.shows("a display in 100 columns", |lines| {
            newest(lines)?[2].contains("-coinbase:BTC").then_some(())
        });
        terminal.resize((50, 60));
        let lines = terminal.shows("a display in 60 columns", |lines| {
            newest(lines)?[2]
                .contains(" 0 coinbase ")
                .then(|| lines.to_vec())
        });
        // Had it been pushed away by lines of the log, the rows above would be full of them.
        let at = lines
            .iter()
            .rposition(|line| line.contains(HEADLINE))
            .unwrap();
        if display(&lines).is_some() && lines[..at].iter().any(String::is_empty) {
            return;
        }
    }
    panic!("something is left of the display");
}

#[test]
#[ignore = "needs tmux"]
fn stopped_and_continued_by_a_shell_the_display_is_drawn_anew_below() {
    let terminal = Terminal::new(
        (50, 100),
        "exec env PS1='prompt: ' bash --norc --noprofile -i",
    );
    terminal.shows("a prompt", |lines| {
        lines[0].starts_with("prompt:").then_some(())
    });
    terminal.types(&format!("{} > OUT", of_run(NINE)).replace("OUT", "/dev/null"));
    let nine = |lines: &[String]| has_nine(&display(lines)?).then_some(());
    terminal.shows("a display of nine sources", nine);
    terminal.press("C-z");
    let stopped = |lines: &[String]| lines.iter().position(|line| line.contains("Stopped"));
    terminal.shows("the shell's word", stopped);
    let since = Instant::now();
    eventually("that others may have written meanwhile", || {
        (since.elapsed() > Duration::from_millis(1_500)).then_some(())
    });
    terminal.types("fg");
    // The display from before is above what the shell has written.
    let anew = |after: &'static str| {
        move |lines: &[String]| {
            let at = lines.iter().rposition(|line| line.ends_with(after))?;
            nine(&lines[at..])
        }
    };
    terminal.shows("another display below", anew("prompt: fg"));
    let lines = terminal.lines();
    assert!(stopped(&lines).is_some(), "{lines:#?}");
    // In the background there are plain lines only.
    terminal.press("C-z");
    terminal.shows("the shell's word again", |lines| {
        let at = lines.iter().rposition(|line| line.contains("Stopped"))?;
        lines[at..]
            .iter()
            .any(|line| line.starts_with("prompt:"))
            .then_some(())
    });
    terminal.types("bg");
    terminal.shows("three rounds in plain lines", |lines| {
        let at = lines.iter().rposition(|line| line.contains("prompt: bg"))?;
        let plain = |line: &&String| line.contains(": report ") || line.contains("9 of 9 prices");
        let rounds = lines[at..].iter().filter(plain).count();
        assert!(
            !lines[at..].iter().any(|line| line.contains(HEADLINE)),
            "{lines:#?}"
        );
        (rounds >= 2).then_some(())
    });
    terminal.types("fg");
    terminal.shows("another display in the foreground", anew("fg"));
    terminal.press("C-c");
    terminal.shows("the prompt at the end", |lines| {
        let last = lines.iter().rfind(|line| !line.is_empty())?;
        (last == "prompt:").then_some(())
    });
}

/// Waits until the display says that source 2 gives no answer, and returns its line with all escape sequences.
fn line_of_a_stopped_collector(terminal: &Terminal) -> String {
    let id = eventually("a collector", || {
        let children = children_of(terminal.id());
        let is_second = |id: &u32| {
            arguments(*id)
                .windows(2)
                .any(|pair| pair == ["--slot", "2"])
        };
        children.into_iter().find(is_second)
    });
    terminal.shows("a calm display", |lines| {
        is_whole(&display(lines)?).then_some(())
    });
    signal(id, "STOP");
    let line = eventually("a line that needs attention", || {
        let text = terminal.tmux(&["capture-pane", "-p", "-e"]);
        let of_source = |line: &&str| line.contains("! 2 bitstamp ") && line.contains(" answer");
        text.lines().find(of_source).map(str::to_owned)
    });
    signal(id, "KILL");
    line
}

fn children_of(id: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

#[test]
#[ignore = "needs tmux"]
fn what_needs_attention_is_marked_and_yellow_unless_no_color_is_set() {
    let coloured = Terminal::run((24, 80), "", NINE);
    let line = line_of_a_stopped_collector(&coloured);
    assert!(line.starts_with(&format!("\x1b[33m{LOOK}")), "{line:?}");
    let plain = Terminal::run((24, 80), "NO_COLOR=1", NINE);
    let line = line_of_a_stopped_collector(&plain);
    assert!(line.starts_with(LOOK), "{line:?}");
    let all = plain.tmux(&["capture-pane", "-p", "-e", "-S", "-"]);
    assert!(!all.contains("\x1b["), "{all:?}");
}

#[test]
#[ignore = "needs tmux"]
fn several_feeds_have_a_line_each_that_names_the_sources_that_are_missing() {
    let bases =
        "BTC ETH SOL XRP ADA DOGE AVAX LINK DOT LTC BCH UNI XLM ATOM ETC FIL AAVE BNB NEAR APT";
    let all: Vec<String> = bases.split(' ').map(|base| format!("{base}/USD")).collect();
    for count in [3, 20] {
        let flags =
            "--source embedded --collectors 4 --every 3s --samples 3 --interval 500ms --feed";
        let feeds = all[..count].join(",");
        let terminal = Terminal::run((24, 80), "", &format!("{flags} {feeds}"));
        let priced = format!("{count} of {count} feeds priced{HEADLINE}");
        let lines = terminal.shows("all feeds have a price", |lines| {
            let lines = display(lines)?;
            let rows = lines.get(2..2 + count)?;
            let is_of = |(line, feed): (&String, &String)| {
                line.starts_with(&format!("embedded   {feed} ")) && line.contains("  4 of 4  ")
            };
            let whole = rows.iter().zip(&all).all(is_of);
            (whole && lines[0].contains(&priced)).then_some(lines)
        });
        assert_eq!(lines.len(), count + 3, "{lines:#?}");
        let id = children_of(terminal.id()).into_iter().find(|id| {
            arguments(*id)
                .windows(2)
                .any(|pair| pair == ["--slot", "2"])
        });
        signal(id.expect("a collector"), "STOP");
        terminal.shows("the source that is missing", |lines| {
            let lines = display(lines)?;
            let lacks = |line: &&String| {
                line.starts_with(LOOK) && line.ends_with("  3 of 4  without 2 embedded")
            };
            (lines.iter().filter(lacks).count() == count).then_some(())
        });
        signal(id.expect("a collector"), "KILL");
    }
}

#[test]
#[ignore = "needs tmux"]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let terminal = Terminal::run((24, 80), "TERM=dumb", NINE);
    let written = scratch("written");
    let copy = format!("cat > '{}'", written.display());
    terminal.tmux(&["pipe-pane", &copy]);
    terminal.shows("two rounds", |_| {
        let text = std::fs::read_to_string(&written).unwrap_or_default();
        assert!(!text.contains('\x1b'), "{text}");
        (text.matches(": report ").count() == 2).then_some(())
    });
}

#[test]
fn a_pipe_gets_plain_lines() {
    let mut command = Command::new("sh");
    let piped = format!("{} --rounds 2 2>&1 > /dev/null | cat", of_run(NINE));
    command.args(["-c", &piped]).env("TERM", "xterm-256color");
    let done = start_command(command).finish();
    assert_eq!(
        done.stdout.matches(": report ").count(),
        2,
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains('\x1b'), "{}", done.stdout);
    assert!(!done.stdout.contains(HEADLINE), "{}", done.stdout);
}
