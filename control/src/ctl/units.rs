//! Numbers and times: those that are typed are read here, those that are shown are the same as on the web pages.

use std::time::Duration;

pub use swift_s3_web_ui::units::*;

/// Reads `10s`, `500ms`, `2m`, `1h` or a plain number of seconds.
///
/// # Errors
/// Says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => 0.0,
    };
    digits
        .parse::<f64>()
        .ok()
        .map(|number| number * scale)
        .filter(|seconds| (0.001..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a time from 1ms to 24h, such as 10s, 500ms or 2m".to_owned())
}

/// Reads `100MiB`, `1.5GB` or a plain number of bytes.
///
/// # Errors
/// Says what is expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let whole = |bytes: f64| bytes as u64;
    digits
        .trim()
        .parse::<f64>()
        .ok()
        .map(|number| number * scale)
        .filter(|bytes| (1.0..=1e18).contains(bytes))
        .map(whole)
        .ok_or_else(|| "expected a number of bytes, such as 100MiB or 1.5GB".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_with_units() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0", "-1s", "1d", "10 s", "nan", "inf", "25h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
