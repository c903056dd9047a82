//! Instants (microseconds since the Unix epoch) as text in UTC.

use alloc::string::String;

/// An instant in UTC, to the millisecond: `2026-11-22T10:30:09.000Z`.
pub fn utc_text(wall_us: u64) -> String {
    let (ms, s) = (wall_us / 1_000 % 1_000, wall_us / 1_000_000);
    let (year, month, day) = civil(s / 86_400);
    let (hour, minute, second) = (s / 3_600 % 24, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: years are
/// counted from 1 March, so that the leap day comes last (E. G. Richards, Explanatory Supplement, ch. 15).
pub fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Parses a timestamp into microseconds since the Unix epoch.
///
/// The format is that of [`utc_text`], with no decimals of the second or up to nine; digits beyond the
/// sixth are dropped. None for any other text, and for instants before the epoch.
pub fn utc_us(text: &str) -> Option<u64> {
    let body = text.strip_suffix('Z')?.as_bytes();
    let (whole, rest) = body.split_at_checked(19)?;
    let mut like = b"0000-00-00T00:00:00".iter().zip(whole);
    let shape = like.all(|(like, byte)| match like {
        b'0' => byte.is_ascii_digit(),
        like => byte == like,
    });
    let fraction = match rest {
        [] => b"0",
        [b'.', fraction @ ..] => fraction,
        _ => return None,
    };
    if !shape || !(1..=9).contains(&fraction.len()) || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number * 10 + u64::from(digit - b'0');
    let part = |from: usize, to: usize| whole[from..to].iter().fold(0, add);
    let (hour, minute, second) = (part(11, 13), part(14, 16), part(17, 19));
    let days = days(part(0, 4), part(5, 7), part(8, 10))?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let us = fraction.iter().chain(b"00000").take(6).fold(0, add);
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000 + us)
}

/// Days from 1970-01-01 to a date: the inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let from_march = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (from_march / 400, from_march % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    #[test]
    fn instants_are_written_in_utc() {
        // From `date -u -d @SECONDS +%FT%T`.
        for (s, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_868_799, "2000-02-29T23:59:59"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (1_795_343_409, "2026-11-22T10:30:09"),
            (4_102_444_800, "2100-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(utc_text(s * 1_000_000 + 7_999), format!("{text}.007Z"));
        }
    }

    #[test]
    fn timestamps_are_parsed() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T10:30:09.000Z", 1_795_343_409_000_000),
            ("2026-09-25T17:48:26.844359Z", 1_790_358_506_844_359),
            ("2024-02-29T23:59:59.123456789Z", 1_709_251_199_123_456),
        ] {
            assert_eq!(utc_us(text), Some(us), "{text}");
            assert_eq!(utc_text(us)[..19], text[..19]);
        }
        for day in (0..60_000).step_by(7) {
            let us = day * 86_400_000_000 + 1_000;
            assert_eq!(utc_us(&utc_text(us)), Some(us));
        }
        for text in [
            "",
            "Z",
            "2026-11-22",
            "2026-11-22T10:30:09",
            "2026-11-22 10:30:09Z",
            "2026-02-30T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T10:60:00Z",
            "2026-11-22T10:30:09.Z",
            "2026-11-22T10:30:09.1234567890Z",
            "2026-11-22T10:30:09.+1Z",
            "+026-11-22T10:30:09Z",
            "２026-11-22T10:30:0Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(utc_us(text), None, "{text}");
        }
    }
}
