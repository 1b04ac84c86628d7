//! Swift timestamps, exactly.
//!
//! Swift counts time in units of 10 µs and writes it as decimal seconds with five digits. Reading that text
//! through a binary float loses the last digit for most values, and then a copy looks older than its own row.
//! Nothing here goes through a float.
//!
//! Source: `swift/common/utils/timestamp.py` (before 2.31: `swift/common/utils.py`), `Timestamp`,
//! `decode_timestamps`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const UNITS_PER_SECOND: u64 = 100_000;
const MICROS_PER_UNIT: u64 = 10;
const FRACTION_DIGITS: usize = 5;
/// Swift refuses times from the year 2286 on, because they need an eleventh digit.
const END_OF_TIME_UNITS: u64 = 10_000_000_000 * UNITS_PER_SECOND;
/// No timestamp that Swift writes is longer; a longer text is not worth looking at.
const MAX_TEXT_BYTES: usize = 128;

/// A Swift timestamp: whole units of 10 µs since the epoch, and Swift's offset.
///
/// The offset orders internal writes right behind the client's write with the same time. Ordered by units,
/// then offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    units: u64,
    offset: u64,
}

/// Why a text is not a Swift timestamp.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text does not have the form of a timestamp.
    #[error("expected a Swift timestamp like 1400000000.00000, got {text:?}")]
    Malformed {
        /// The text, shortened.
        text: String,
    },
    /// The time lies before 1970, or in the year 2286 or later.
    #[error("expected a Swift timestamp between 0 and 9999999999.99999, got {text:?}")]
    OutOfRange {
        /// The text, shortened.
        text: String,
    },
}

impl Timestamp {
    /// The time `units` × 10 µs after the epoch, without offset.
    pub const fn from_units(units: u64) -> Self {
        Self { units, offset: 0 }
    }

    /// The time `units` × 10 µs after the epoch, with an offset.
    pub const fn new(units: u64, offset: u64) -> Self {
        Self { units, offset }
    }

    /// Units of 10 µs since the epoch.
    pub const fn units(self) -> u64 {
        self.units
    }

    /// Swift's offset; 0 for everything that clients write.
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// The same time with another offset.
    pub const fn with_offset(self, offset: u64) -> Self {
        Self { units: self.units, offset }
    }

    /// The last whole unit at or before a time in microseconds since the epoch.
    pub const fn from_unix_micros(micros: u64) -> Self {
        Self::from_units(micros / MICROS_PER_UNIT)
    }

    /// The time `duration` later, rounded down to a unit. Saturates; keeps the offset.
    pub fn plus(self, duration: Duration) -> Self {
        let units = duration.as_micros() / u128::from(MICROS_PER_UNIT);
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        Self { units: self.units.saturating_add(units), offset: self.offset }
    }

    /// How long after `earlier` this is; zero when `earlier` is later. Offsets do not count.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let units = self.units.saturating_sub(earlier.units);
        let seconds = Duration::from_secs(units / UNITS_PER_SECOND);
        seconds + Duration::from_micros(units % UNITS_PER_SECOND * MICROS_PER_UNIT)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(malformed(text));
        }
        let (seconds, offset) = match text.split_once('_') {
            // Swift itself reads a bare trailing underscore as "no offset".
            None | Some((_, "")) => (text.trim_end_matches('_'), 0),
            Some((seconds, offset)) => (seconds, parse_hex(offset).ok_or_else(|| malformed(text))?),
        };
        let units = parse_seconds(seconds).ok_or_else(|| malformed(text))?;
        if units >= END_OF_TIME_UNITS {
            return Err(out_of_range(text));
        }
        Ok(Self { units, offset })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, fraction) = (self.units / UNITS_PER_SECOND, self.units % UNITS_PER_SECOND);
        write!(formatter, "{seconds:010}.{fraction:05}")?;
        if self.offset != 0 {
            write!(formatter, "_{:016x}", self.offset)?;
        }
        Ok(())
    }
}

/// The three times of a container row: of its data, its content type and its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowTimestamps {
    /// When the data was written (PUT), or when the object was deleted.
    pub data: Timestamp,
    /// When the content type was last written.
    pub content_type: Timestamp,
    /// When the metadata was last written (PUT or POST): the newest of the three in rows that Swift writes.
    pub metadata: Timestamp,
}

impl RowTimestamps {
    /// Reads a row's `created_at`: a timestamp, then up to two signed hexadecimal differences in units, each
    /// to the part before. A missing part, or a difference of zero, takes over the part before with its offset.
    ///
    /// # Errors
    /// When a part is malformed, or a sum leaves the range of timestamps.
    pub fn parse(created_at: &str) -> Result<Self, TimestampError> {
        if created_at.len() > MAX_TEXT_BYTES {
            return Err(malformed(created_at));
        }
        let (first, mut rest) = split_at_sign(created_at);
        let data: Timestamp = first.parse()?;
        let mut times = [data, data];
        let mut previous = data;
        for time in &mut times {
            if let Some((sign, remainder)) = split_sign(rest) {
                let (digits, behind) = split_at_sign(remainder);
                let delta = parse_hex(digits).ok_or_else(|| malformed(created_at))?;
                previous = shifted(previous, sign, delta).ok_or_else(|| out_of_range(created_at))?;
                rest = behind;
            }
            *time = previous;
        }
        let [content_type, metadata] = times;
        Ok(Self { data, content_type, metadata })
    }
}

#[derive(Clone, Copy)]
enum Sign {
    Plus,
    Minus,
}

fn split_at_sign(text: &str) -> (&str, &str) {
    let at = text.find(['+', '-']).unwrap_or(text.len());
    text.split_at(at)
}

fn split_sign(text: &str) -> Option<(Sign, &str)> {
    if let Some(rest) = text.strip_prefix('+') {
        return Some((Sign::Plus, rest));
    }
    text.strip_prefix('-').map(|rest| (Sign::Minus, rest))
}

/// A difference of zero keeps the offset, any other drops it: POST times never carry one.
fn shifted(from: Timestamp, sign: Sign, delta: u64) -> Option<Timestamp> {
    if delta == 0 {
        return Some(from);
    }
    let units = match sign {
        Sign::Plus => from.units.checked_add(delta)?,
        Sign::Minus => from.units.checked_sub(delta)?,
    };
    (units < END_OF_TIME_UNITS).then_some(Timestamp::from_units(units))
}

fn parse_hex(digits: &str) -> Option<u64> {
    // `from_str_radix` alone would also take a sign.
    let all_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_hex.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Decimal seconds in units; digits beyond the fifth round half up.
fn parse_seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    // A number too long for 64 bits is a number all the same, and out of range.
    let seconds = whole.parse::<u64>().unwrap_or(u64::MAX);
    let mut units = seconds.saturating_mul(UNITS_PER_SECOND);
    let mut digits = fraction.bytes().map(|byte| u64::from(byte - b'0'));
    let mut weight = UNITS_PER_SECOND;
    for digit in digits.by_ref().take(FRACTION_DIGITS) {
        weight /= 10;
        units = units.saturating_add(digit * weight);
    }
    if digits.next().is_some_and(|digit| digit >= 5) {
        units = units.saturating_add(1);
    }
    Some(units)
}

fn malformed(text: &str) -> TimestampError {
    TimestampError::Malformed { text: shortened(text) }
}

fn out_of_range(text: &str) -> TimestampError {
    TimestampError::OutOfRange { text: shortened(text) }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
