//! Parses and formats durations such as `250ms`, `1s` and `2m`.

/// Parses `250ms`, `1s`, `2m`, `1h` or `20us` into microseconds. The error describes valid durations.
pub fn duration_us(text: &str) -> Result<u64, &'static str> {
    const RIGHT: &str = "a whole number with a unit, such as 250ms, 1s or 2m";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let scale = match &text[digits..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(RIGHT),
    };
    text[..digits]
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(scale))
        .ok_or(RIGHT)
}

/// Formats a duration for [`duration_us`], in the largest unit that needs no fraction.
pub fn duration_text(us: u64) -> String {
    for (scale, unit) in [
        (3_600_000_000, "h"),
        (60_000_000, "m"),
        (1_000_000, "s"),
        (1_000, "ms"),
    ] {
        if us >= scale && us.is_multiple_of(scale) {
            return format!("{}{unit}", us / scale);
        }
    }
    format!("{us}us")
}

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
    fn durations_have_units_and_round_trip() {
        for (text, us) in [
            ("250ms", 250_000),
            ("1s", 1_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("20us", 20),
            ("0s", 0),
        ] {
            assert_eq!(duration_us(text), Ok(us));
        }
        for (us, text) in [
            (250_000, "250ms"),
            (90_000_000, "90s"),
            (1_500, "1500us"),
            (60_000_000, "1m"),
        ] {
            assert_eq!(duration_text(us), text);
            assert_eq!(duration_us(text), Ok(us));
        }
        for text in [
            "",
            "1",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1sec",
            "99999999999999999999s",
            "18446744073709551615h",
            "١s",
        ] {
            assert!(duration_us(text).is_err(), "{text}");
        }
    }

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
