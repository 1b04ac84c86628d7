//! Numbers in words.

use std::time::Duration;

/// With commas between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In the largest unit of which it is a whole number.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    if span.subsec_nanos() > 0 {
        return format!("{} seconds", span.as_secs_f64());
    }
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "second"));
    let count = seconds / unit;
    format!("{} {name}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// In the largest binary or decimal unit of which it is a whole number.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1_000, "kB"),
    ];
    match units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", thousands(bytes / unit)),
        None => format!("{} bytes", thousands(bytes)),
    }
}

/// A part of the whole.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{} %", (ratio * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (123_456, "123,456"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(thousands(number), expected);
        }
        for (milliseconds, expected) in [
            (0, "0 seconds"),
            (500, "0.5 seconds"),
            (1_000, "1 second"),
            (60_000, "1 minute"),
            (90_000, "90 seconds"),
            (7_200_000, "2 hours"),
            (86_400_000, "1 day"),
            (90_000_000, "25 hours"),
        ] {
            assert_eq!(span(Duration::from_millis(milliseconds)), expected);
        }
        for (count, expected) in [
            (0, "0 bytes"),
            (1_536, "1,536 bytes"),
            (2_048, "2 KiB"),
            (50_000_000, "50 MB"),
            (1 << 30, "1 GiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
        for (ratio, expected) in
            [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %"), (0.125, "12.5 %"), (0.29, "29 %")]
        {
            assert_eq!(percent(ratio), expected);
        }
    }
}
