//! Numbers, times and ids as a person reads them. Pure.

use common::ids::ChannelId;
use jiff::Timestamp;

/// A whole number with its digits in groups of three.
pub(crate) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && digits.len().saturating_sub(i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Ms since 1970 as `2026-01-31 08:30:00`, in UTC; a number that is no time as it is.
pub(crate) fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The time of day alone, to the minute: `08:30`.
pub(crate) fn time_of_day(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| time.strftime("%H:%M").to_string())
}

/// The time of day alone, to the second: `08:30:01`.
pub(crate) fn second_of_day(ms: u64) -> String {
    time(ms).split_once(' ').map_or_else(|| ms.to_string(), |(_, of_day)| of_day.to_owned())
}

/// Unix time in seconds as [`time`] writes it.
pub(crate) fn time_of_s(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(|_| seconds.to_string(), |seconds| time(seconds.saturating_mul(1_000)))
}

/// A stretch of time in the two units that matter: `850 ms`, `12 s`, `3 min 5 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// When something was or will be, seen from `now_ms`: `12 s ago`, `in 3 min 5 s`.
pub(crate) fn relative(at_ms: u64, now_ms: u64) -> String {
    if at_ms > now_ms {
        format!("in {}", span(at_ms.saturating_sub(now_ms)))
    } else {
        format!("{} ago", span(now_ms.saturating_sub(at_ms)))
    }
}

/// A channel's id, cut so that it fits a table: `9A1MN7Ka…Xjq8SuY`.
pub(crate) fn short(id: &ChannelId) -> String {
    let text = id.to_string();
    let (head, tail) = (text.get(..8), text.len().checked_sub(6).and_then(|from| text.get(from..)));
    format!("{}…{}", head.unwrap_or_default(), tail.unwrap_or_default())
}

/// A process or holder, cut likewise: its first eight digits and its term.
pub(crate) fn short_holder(holder: &str) -> String {
    let (process, term) = holder.split_once(':').unwrap_or((holder, ""));
    let head = process.get(..8).unwrap_or(process);
    if term.is_empty() { head.to_owned() } else { format!("{head}, term {term}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(u128::from(u64::MAX)), "18,446,744,073,709,551,615");
    }

    #[test]
    fn times_are_in_the_unit_that_matters() {
        assert_eq!(time(1_769_848_201_250), "2026-01-31 08:30:01");
        assert_eq!(time_of_day(1_769_848_201_250), "08:30");
        assert_eq!(second_of_day(1_769_848_201_250), "08:30:01");
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
        for (ms, text) in [
            (850, "850 ms"),
            (59_999, "59 s"),
            (185_000, "3 min 5 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(span(ms), text);
        }
        assert_eq!(relative(1_000, 13_000), "12 s ago");
        assert_eq!(relative(13_000, 1_000), "in 12 s");
    }

    #[test]
    fn long_names_are_cut() {
        let id: ChannelId = "9A1MN7Kak5na2q3icPtsJJNnwH5tjp913ygGiXjq8SuY".parse().expect("an id");
        assert_eq!(short(&id), "9A1MN7Ka…jq8SuY");
        assert_eq!(short(&ChannelId([0; 32])), "11111111…111111");
        assert_eq!(short_holder("0123456789abcdef:7"), "01234567, term 7");
        assert_eq!(short_holder("x"), "x");
    }
}
