//! Parses and formats durations such as `250ms`, `1s` and `2m`.

use alloc::string::String;

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
}
