//! Times as people write them: `2026-01-31`, `2026-01-31T08:30:00Z`, or milliseconds since 1970. UTC throughout.

const DAY_MS: u64 = 86_400_000;

/// Reads a time, as ms since 1970.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "expected a day (2026-01-31), a time in UTC (2026-01-31T08:30:00Z) or milliseconds since 1970";
    read(text).ok_or_else(|| EXPECTED.to_owned())
}

fn read(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (day, time) = text.split_once('T').map_or((text, None), |(day, time)| (day, Some(time)));
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let parts: Vec<&str> = text.split(separator).collect();
        let parts: [&str; 3] = parts.try_into().ok()?;
        let number =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?;
        Some([number(parts[0])?, number(parts[1])?, number(parts[2])?])
    };
    let [year, month, day] = numbers(day, '-')?;
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
    {
        return None;
    }
    let days: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<u64>()
        + (1..month).map(|month| days_of(year, month)).sum::<u64>()
        + day
        - 1;
    let [hours, minutes, seconds] = match time {
        None => [0; 3],
        Some(time) => numbers(time.strip_suffix('Z')?, ':')?,
    };
    (hours < 24 && minutes < 60 && seconds < 60)
        .then(|| days * DAY_MS + ((hours * 60 + minutes) * 60 + seconds) * 1_000)
}

/// Writes ms since 1970 as `2026-01-31T08:30:00.250Z`.
pub(super) fn text(ms: u64) -> String {
    let (mut days, of_day) = (ms / DAY_MS, ms % DAY_MS);
    let mut year = 1970;
    // No clock is set that far; a number that is no time is shown as it is.
    while year <= 9999 {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    if year > 9999 {
        return ms.to_string();
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let (seconds, milli) = (of_day / 1_000, of_day % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hours:02}:{minutes:02}:{seconds:02}.{milli:03}Z", days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
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
        for day in ["1972-02-29", "2100-02-28", "2024-12-31", "9999-12-31"] {
            let ms = parse(day).expect("a day");
            assert_eq!(text(ms), format!("{day}T00:00:00.000Z"));
        }
        for wrong in
            ["", "2026-13-01", "2026-02-30", "2100-02-29", "2026-01-31T24:00:00Z", "2026-01-31T08:30"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
