//! Formats instants (microseconds since the Unix epoch) as text in UTC.

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
}
