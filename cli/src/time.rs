//! Times as people write them: `2026-01-31`, `2026-01-31T08:30:00Z`, or milliseconds since 1970. UTC throughout.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Reads a time, as ms since 1970.
///
/// # Errors
/// What was expected.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "expected a day (2026-01-31), a time in UTC (2026-01-31T08:30:00Z) or milliseconds since 1970";
    read(text).ok_or_else(|| EXPECTED.to_owned())
}

fn read(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    // A day alone begins at midnight; with a time of day it must say of which zone.
    let time = match text.contains('T') {
        true => text.parse::<Timestamp>().ok()?,
        false => text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    u64::try_from(time.as_millisecond()).ok()
}

/// Writes ms since 1970 as `2026-01-31T08:30:00.250Z`; a number that is no time is shown as it is.
pub(crate) fn text(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(parse("1970-01-01"), Ok(0));
        assert_eq!(parse("2000-03-01"), Ok(951_868_800_000));
        assert_eq!(parse("2026-01-31T08:30:01Z"), Ok(1_769_848_201_000));
        assert_eq!(parse("1769848201000"), Ok(1_769_848_201_000));
        assert_eq!(text(1_769_848_201_250), "2026-01-31T08:30:01.250Z");
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(u64::MAX), u64::MAX.to_string());
        for day in ["1972-02-29", "2100-02-28", "2024-12-31"] {
            let ms = parse(day).expect("a day");
            assert_eq!(text(ms), format!("{day}T00:00:00.000Z"));
        }
        for wrong in ["", "2026-13-01", "2026-02-30", "2100-02-29", "2026-01-31T08:30", "1969-12-31"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
