//! Statistics, and the table in which figures are printed.

/// The quantile `part` (0 to 1) of the values, by nearest rank.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The largest value.
pub fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// For each instant, the latest minus the earliest time of all processes, each of which lists one time per instant. Leaves
/// out instants that a process missed (NaN).
pub fn spreads(of_processes: &[Vec<f64>]) -> Vec<f64> {
    let shortest = of_processes.iter().map(Vec::len).min().unwrap_or(0);
    let spread = |index: usize| {
        let times: Vec<f64> = of_processes.iter().map(|times| times[index]).collect();
        let whole = times.iter().all(|time| time.is_finite());
        whole.then(|| largest(&times) - quantile(&times, 0.0))
    };
    (0..shortest).filter_map(spread).collect()
}

/// Whether a figure meets its goal.
enum Verdict {
    Met,
    Missed,
}

/// The table. Prints each figure at once, and counts goals that were met and missed.
#[derive(Default)]
pub struct Table {
    met: u32,
    missed: u32,
}

impl Table {
    /// Begins a section.
    pub fn heading(&mut self, name: &str, about: &str) {
        println!("\n{name}: {about}");
    }

    /// A figure without a goal, for comparison.
    pub fn figure(&mut self, what: &str, figure: &str) {
        println!("  {what:<66} {figure}");
    }

    /// A figure whose goal is to be at most `goal`, both in `unit`.
    pub fn at_most(&mut self, what: &str, figure: f64, goal: f64, unit: &str) {
        self.judged(what, figure, "≤", goal, unit, figure <= goal);
    }

    /// A figure whose goal is to be at least `goal`, both in `unit`.
    pub fn at_least(&mut self, what: &str, figure: f64, goal: f64, unit: &str) {
        self.judged(what, figure, "≥", goal, unit, figure >= goal);
    }

    fn judged(&mut self, what: &str, figure: f64, sign: &str, goal: f64, unit: &str, met: bool) {
        let verdict = if met { Verdict::Met } else { Verdict::Missed };
        let word = match verdict {
            Verdict::Met => {
                self.met += 1;
                "met"
            }
            Verdict::Missed => {
                self.missed += 1;
                "MISSED"
            }
        };
        let figure = format!("{} {unit}", digits(figure));
        let goal = format!("goal {sign} {} {unit}", digits(goal));
        println!("  {what:<66} {figure:<12} {goal:<16} {word}");
    }

    /// A remark below a figure.
    pub fn remark(&mut self, text: &str) {
        println!("    {text}");
    }

    /// The last line: how many goals were met.
    pub fn sum_up(&self) {
        println!("\n{} of {} goals met", self.met, self.met + self.missed);
    }
}

/// A number with as many digits as are significant.
pub fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
