#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn texts_of_all_forms_are_read_exactly() {
    for (text, units, offset) in [
        ("0", 0, 0),
        ("0000000000.00000", 0, 0),
        ("1400000000", 140_000_000_000_000, 0),
        ("1400000000.", 140_000_000_000_000, 0),
        ("1400000000.1", 140_000_000_010_000, 0),
        ("1400000000.00001", 140_000_000_000_001, 0),
        (".5", 50_000, 0),
        ("1402464677.04188", 140_246_467_704_188, 0),
        ("1400000000.00000_0000000000000001", 140_000_000_000_000, 1),
        ("1400000000.00000_FFFFFFFFFFFFFFFF", 140_000_000_000_000, u64::MAX),
        ("1400000000.00000_", 140_000_000_000_000, 0),
        ("1_0", 100_000, 0),
        ("1400000000.000004", 140_000_000_000_000, 0),
        ("1400000000.000005", 140_000_000_000_001, 0),
        ("1400000000.999999", 140_000_000_100_000, 0),
        ("9999999999.99999", 999_999_999_999_999, 0),
    ] {
        assert_eq!(parse(text), Timestamp::new(units, offset), "{text}");
    }
}

#[test]
fn other_texts_are_refused_with_their_text() {
    for text in [
        "",
        ".",
        "_",
        "x",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1e9",
        "1.2.3",
        "0x1",
        "nan",
        "inf",
        "1__1",
        "1_g",
        "1_+1",
        "1_00000000000000001g",
        "١",
    ] {
        let error = text.parse::<Timestamp>().unwrap_err();
        assert_eq!(error, TimestampError::Malformed { text: text.to_owned() });
    }
    for text in ["10000000000", "9999999999.999995", "99999999999999999999999999"] {
        let error = text.parse::<Timestamp>().unwrap_err();
        assert_eq!(error, TimestampError::OutOfRange { text: text.to_owned() });
    }
    let long = "1".repeat(10_000);
    assert!(long.parse::<Timestamp>().unwrap_err().to_string().len() < 200);
    assert!(RowTimestamps::parse(&long).is_err());
}

#[test]
fn printing_is_swifts_internal_form() {
    for (units, offset, text) in [
        (0, 0, "0000000000.00000"),
        (1, 0, "0000000000.00001"),
        (140_000_000_000_000, 0, "1400000000.00000"),
        (140_000_000_000_000, 1, "1400000000.00000_0000000000000001"),
        (150_000, 0xabc, "0000000001.50000_0000000000000abc"),
    ] {
        assert_eq!(Timestamp::new(units, offset).to_string(), text);
    }
}

#[test]
fn order_is_by_time_then_offset() {
    let ordered = [
        Timestamp::default(),
        Timestamp::from_units(5),
        Timestamp::new(5, 1),
        Timestamp::new(5, 2),
        Timestamp::from_units(6),
    ];
    assert!(ordered.is_sorted_by(|one, other| one < other));
}

#[test]
fn arithmetic_saturates_and_rounds_down() {
    let time = Timestamp::new(100, 7);
    assert_eq!(time.plus(Duration::from_micros(25)), Timestamp::new(102, 7));
    assert_eq!(time.plus(Duration::MAX).units(), u64::MAX);
    assert_eq!(time.since(Timestamp::from_units(40)), Duration::from_micros(600));
    assert_eq!(time.since(Timestamp::from_units(101)), Duration::ZERO);
    assert!(Timestamp::from_units(u64::MAX).since(Timestamp::default()) > Duration::ZERO);
    assert_eq!(Timestamp::from_unix_micros(1_234_567), Timestamp::from_units(123_456));
    assert_eq!(time.with_offset(9), Timestamp::new(100, 9));
}

#[test]
fn row_times_follow_from_the_part_before() {
    let base = 140_000_000_000_000;
    for (text, content_type, metadata) in [
        ("1400000000.00000", (base, 0), (base, 0)),
        ("1400000000.00000+a", (base + 10, 0), (base + 10, 0)),
        ("1400000000.00000+a+5", (base + 10, 0), (base + 15, 0)),
        ("1400000000.00000+a-5", (base + 10, 0), (base + 5, 0)),
        ("1400000000.00000-a+5", (base - 10, 0), (base - 5, 0)),
        ("1400000000.00000+0+c350", (base, 0), (base + 50_000, 0)),
        ("1400000000.00000+0+0", (base, 0), (base, 0)),
        ("1400000000.00000+1+2+3", (base + 1, 0), (base + 3, 0)),
    ] {
        let row = RowTimestamps::parse(text).unwrap();
        assert_eq!(row.data, Timestamp::from_units(base), "{text}");
        assert_eq!(row.content_type, Timestamp::new(content_type.0, content_type.1), "{text}");
        assert_eq!(row.metadata, Timestamp::new(metadata.0, metadata.1), "{text}");
    }
}

#[test]
fn row_times_keep_the_offset_only_without_a_difference() {
    let base = 140_000_000_000_000;
    let row = RowTimestamps::parse("1400000000.00000_0000000000000002+0+5").unwrap();
    assert_eq!(row.data, Timestamp::new(base, 2));
    assert_eq!(row.content_type, Timestamp::new(base, 2));
    assert_eq!(row.metadata, Timestamp::from_units(base + 5));
}

#[test]
fn broken_row_times_are_refused() {
    for text in [
        "",
        "+1",
        "1400000000.00000+",
        "1400000000.00000+1+",
        "1400000000.00000+x",
        "1400000000.00000--1",
        "1400000000.00000+1_1",
        "1.0-fffffff",
        "9999999999.99999+1",
        "1.0+ffffffffffffffffff",
        "1.0+ffffffffffffffff",
    ] {
        assert!(RowTimestamps::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn printed_times_are_read_back(units in 0..END_OF_TIME_UNITS, offset: u64) {
        let time = Timestamp::new(units, offset);
        prop_assert_eq!(parse(&time.to_string()), time);
    }

    #[test]
    fn text_order_is_time_order(
        one in (0..END_OF_TIME_UNITS, any::<u64>()),
        other in (0..END_OF_TIME_UNITS, any::<u64>()),
        near in 0..3_u64,
    ) {
        for other in [other, ((one.0 + near).min(END_OF_TIME_UNITS - 1), other.1)] {
            let (one, other) = (Timestamp::new(one.0, one.1), Timestamp::new(other.0, other.1));
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
        }
    }

    #[test]
    fn sums_and_differences_undo_each_other(units in 0..END_OF_TIME_UNITS, micros in 0..u64::MAX / 1000) {
        let earlier = Timestamp::from_units(units);
        let duration = Duration::from_micros(micros / 10 * 10);
        prop_assert_eq!(earlier.plus(duration).since(earlier), duration);
    }

    #[test]
    fn row_times_are_read_back(data in 0..END_OF_TIME_UNITS, second in 0..END_OF_TIME_UNITS, third in 0..END_OF_TIME_UNITS) {
        let delta = |from: u64, to: u64| if to < from { format!("-{:x}", from - to) } else { format!("+{:x}", to - from) };
        let text = format!("{}{}{}", Timestamp::from_units(data), delta(data, second), delta(second, third));
        let row = RowTimestamps::parse(&text).unwrap();
        prop_assert_eq!(row.data.units(), data);
        prop_assert_eq!(row.content_type.units(), second);
        prop_assert_eq!(row.metadata.units(), third);
    }

    #[test]
    fn no_text_panics(text in "[0-9a-f_.+-]{0,40}") {
        let _ = text.parse::<Timestamp>();
        let _ = RowTimestamps::parse(&text);
    }
}
