//! Shares the work on a long file with processes of this same program, one for each core.
//!
//! This process reads the file and compares its reports with each other and with the roster. The others check signatures, replay
//! rounds and write reports again, each in batches of its own. Nobody else sees the file, and the findings are taken in the order
//! of the lines.
//!
//! Invariant: no pipe ever fills while both ends write. A process reads a whole batch before it answers, and gets the next
//! one only after its answer was read. A process that ends early is an error, and nothing is proved.

use crate::error::Error;
use crate::lines::Lines;
use rsoracle_proof::report::Verifier;
use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::mem::take;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Environment variable that marks a process that shares the work.
const SHARES: &str = "RSORACLE_VERIFY_SHARES";
/// Fewest bytes of a file that are worth starting processes for.
pub const FILE_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// A batch is handed over when it has this many bytes. Each line counts for more bytes than its text has: also for its entry.
const BATCH_BYTES: usize = 256 * 1024;
/// Separates the flaws of one report in an answer. No flaw contains it.
const BETWEEN: &str = "\t";

/// A line of the file.
pub struct Checked {
    /// How messages name it.
    pub place: String,
    /// As in [`crate::lines::Line`].
    pub text: Result<String, &'static str>,
    pub whole: bool,
    /// The flaws that its report has by itself, once another process looked for them.
    pub known: Option<Vec<String>>,
}

/// A process, and the lines that it has.
struct Worker {
    process: Child,
    answers: Lines<BufReader<ChildStdout>>,
    batch: Vec<Checked>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// The processes that share the work on one file, the one with the oldest batch first, and the next batch.
pub struct Workers {
    workers: VecDeque<Worker>,
    batch: Vec<Checked>,
    bytes: usize,
}

impl Workers {
    /// Starts processes if a file of this length is worth it; none where that is impossible. Together, those of `files` files are
    /// at most as many as there are cores; of more files than cores, this process does the work.
    pub fn start(file_bytes: u64, files: usize) -> Workers {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let worth_it = cores > 1 && file_bytes >= FILE_BYTES_MIN;
        let count = if worth_it { cores / files } else { 0 };
        Workers {
            workers: (0..count).map_while(|_| start()).collect(),
            batch: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes the next line. Returns the oldest lines, if there are any that have been checked.
    pub fn take(&mut self, line: Checked) -> Result<Vec<Checked>, Error> {
        if self.workers.is_empty() {
            return Ok(vec![line]);
        }
        self.bytes += line.text.as_ref().map_or(0, String::len) + size_of_val(&line);
        self.batch.push(line);
        if self.bytes < BATCH_BYTES {
            return Ok(Vec::new());
        }
        self.turn()
    }

    /// Returns all lines that were taken and not returned.
    pub fn rest(&mut self) -> Result<Vec<Checked>, Error> {
        // The last batch goes to the process with the oldest one.
        let turns = 0..=self.workers.len();
        let all: Result<Vec<_>, Error> = turns.map(|_| self.turn()).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Takes the answer of the process with the oldest batch, and hands it the next.
    fn turn(&mut self) -> Result<Vec<Checked>, Error> {
        let Some(mut worker) = self.workers.pop_front() else {
            return Ok(Vec::new());
        };
        let mut done = take(&mut worker.batch);
        for line in &mut done {
            line.known = Some(worker.answer()?);
        }
        let line = |line: &Checked| format!("+{}\n", line.text.as_deref().unwrap_or(""));
        // An empty line ends the batch.
        let text = self.batch.iter().map(line).collect::<String>() + "\n";
        let mut input = worker.process.stdin.as_ref().ok_or_else(gone)?;
        input.write_all(text.as_bytes()).map_err(|_| gone())?;
        worker.batch = take(&mut self.batch);
        self.bytes = 0;
        self.workers.push_back(worker);
        Ok(done)
    }
}

impl Worker {
    /// The flaws of the next line of its batch.
    fn answer(&mut self) -> Result<Vec<String>, Error> {
        let answer = self.answers.next_line()?.filter(|answer| answer.whole);
        let text = answer
            .and_then(|answer| answer.text.ok())
            .ok_or_else(gone)?;
        Ok(text.split_terminator(BETWEEN).map(str::to_owned).collect())
    }
}

/// The error about a process that ended before its time.
fn gone() -> Error {
    let attempt = "a process that shares the work ended";
    let advice = "was it killed, or is memory short? run it again";
    Error::new(attempt, "its answer is missing").advise(advice)
}

fn start() -> Option<Worker> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(std::env::args_os().skip(1)).env(SHARES, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().ok()?;
    let answers = BufReader::new(process.stdout.take()?);
    Some(Worker {
        process,
        answers: Lines::new(answers, "the answer of a process that shares the work"),
        batch: Vec::new(),
    })
}

/// If this process is one that shares the work: does so until its standard input ends, and returns true.
pub fn share() -> Result<bool, Error> {
    if std::env::var_os(SHARES).is_none() {
        return Ok(false);
    }
    let mut verifier = Verifier::default();
    let mut lines = Lines::new(std::io::stdin().lock(), "standard input");
    let mut batch: Vec<String> = Vec::new();
    while let Some(line) = lines.next_line()? {
        let text = line.text.unwrap_or("");
        if let Some(line) = text.strip_prefix('+') {
            batch.push(line.to_owned());
            continue;
        }
        let flaws = |line: String| verifier.alone(&line).join(BETWEEN) + "\n";
        let answer: String = batch.drain(..).map(flaws).collect();
        // The other end may be gone.
        let _ = std::io::stdout().write_all(answer.as_bytes());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_files_than_cores_this_process_does_the_work() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::start(FILE_BYTES_MIN, cores + 1);
        assert!(workers.workers.is_empty());
    }
}
