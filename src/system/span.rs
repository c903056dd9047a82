//! Durations for people.

/// A duration as rounded text, such as `1.5 s`, `10 min` or `25.0 h`.
pub fn span(us: u64) -> String {
    let s = us as f64 / 1e6;
    match us / 1_000_000 {
        0..120 => format!("{s:.1} s"),
        120..7_200 => format!("{:.0} min", s / 60.0),
        _ => format!("{:.1} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_a_fitting_unit() {
        for (us, text) in [
            (1_500_000, "1.5 s"),
            (119_000_000, "119.0 s"),
            (600_000_000, "10 min"),
            (90_000_000_000, "25.0 h"),
        ] {
            assert_eq!(span(us), text);
        }
    }
}
