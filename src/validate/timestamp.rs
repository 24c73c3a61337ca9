//! Points in time as other systems write them: digits, or RFC 3339 as Rails' JSON has it. It never
//! guesses: what it can't read is `None`.

/// An unsigned number in decimal digits only: no sign, no space.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Unix seconds of `2026-11-22T14:40:00Z`, with or without a fraction (cut off) and with any offset.
///
/// Source: RFC 3339 section 5.6; a leap second counts as the second before it.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone)?;
    let time = match time.split_once('.') {
        Some((time, fraction)) => {
            digits(fraction.get(..9.min(fraction.len()))?)?;
            time
        }
        None => time,
    };
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days = days_since_1970(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local = days
        .checked_mul(86_400)?
        .checked_add(hour.checked_mul(3600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second.min(59))?;
    match zone.split_at_checked(1)? {
        ("Z" | "z", "") => Some(local),
        ("+", offset) => local.checked_sub(offset_seconds(offset)?),
        ("-", offset) => local.checked_add(offset_seconds(offset)?),
        _ => None,
    }
}

/// Numbers of exactly these many digits, between separators.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        *number = digits(parts.next().filter(|part| part.len() == width)?)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn offset_seconds(text: &str) -> Option<u64> {
    let [hours, minutes] = numbers(text, ':', [2, 2])?;
    let in_range = hours <= 23 && minutes <= 59;
    hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?).filter(|_| in_range)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    let (past, rest) = months.split_at_checked(before)?;
    if year < 1970 || day < 1 || day > *rest.first()? {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    years.checked_add(past.iter().sum())?.checked_add(day.checked_sub(1)?)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// Scenario: one moment in every form, and days around leap years, checked against HTTP's own date parser.
    /// Guarantees: RFC 3339 is read to the second, offsets included.
    #[test]
    fn moments_are_read() {
        for text in [
            "2026-11-22T14:40:00Z",
            "2026-11-22T14:40:00.123Z",
            "2026-11-22t14:40:00.123456789012z",
            "2026-11-22 14:40:00Z",
            "2026-11-22T16:10:00+01:30",
            "2026-11-21T23:40:00.5-15:00",
        ] {
            assert_eq!(rfc3339(text), Some(1_795_358_400), "{text}");
        }
        for day in (0..60_000_u64).step_by(59) {
            let moment = UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_661);
            let http = httpdate::fmt_http_date(moment);
            let [_, day_of_month, month, year, time, _] = http.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{http}")
            };
            let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = names.find(month).unwrap() / 3 + 1;
            let text = format!("{year}-{month:02}-{day_of_month}T{time}Z");
            assert_eq!(rfc3339(&text), Some(day * 86_400 + 3_661), "{text}");
        }
    }

    /// Scenario: texts that are no moment, or one before 1970.
    /// Guarantees: nothing is guessed.
    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "tomorrow",
            "2026-11-22",
            "2026-11-22T14:40:00",
            "2026-11-22T14:40Z",
            "2026-11-31T14:40:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-10-00T00:00:00Z",
            "2026-10-10T24:00:00Z",
            "2026-10-10T00:60:00Z",
            "2026-10-10T00:00:61Z",
            "2026-10-10T00:00:00.Z",
            "2026-10-10T00:00:00.xZ",
            "2026-10-10T00:00:00ZZ",
            "2026-10-10T00:00:00+1:00",
            "2026-10-10T00:00:00+24:00",
            "26-10-10T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "+026-10-10T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        for text in ["", "+1", "-1", " 1", "1.5", "18446744073709551616"] {
            assert_eq!(digits(text), None, "{text}");
        }
        assert_eq!(digits("18446744073709551615"), Some(u64::MAX));
    }
}
