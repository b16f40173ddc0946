use super::*;
use std::fmt::Write;
use std::time::Duration;

fn record(place: Option<Place<'_>>) -> Record<'_> {
    Record {
        level: Level::Error,
        time: UNIX_EPOCH + Duration::from_millis(1_795_355_422_821),
        process: 25955,
        category: "rpc.netserver",
        place,
        text: "text".to_owned(),
        fields: Vec::new(),
    }
}

#[test]
fn lines_have_libvirts_shape() {
    let place = Place { file: "a/b.rs", line: 81, module: "common::rpc::connection" };
    assert_eq!(
        record(Some(place)).line(),
        "2026-11-22 13:50:22.821+0000: 25955: error : connection:81 : text\n"
    );
    let beside = record(Some(place)).beside(Level::Info, "hostname: h".to_owned());
    assert_eq!(beside.line(), "2026-11-22 13:50:22.821+0000: 25955: info : hostname: h\n");
}

#[test]
fn times_are_right_around_leap_days_and_centuries() {
    let cases = [
        (0, "1970-01-01 00:00:00.000+0000"),
        (951_782_399_999, "2000-02-28 23:59:59.999+0000"),
        (951_782_400_000, "2000-02-29 00:00:00.000+0000"),
        (951_868_800_000, "2000-03-01 00:00:00.000+0000"),
        (978_307_199_001, "2000-12-31 23:59:59.001+0000"),
        (1_709_164_800_000, "2024-02-29 00:00:00.000+0000"),
        (1_740_787_200_000, "2025-03-01 00:00:00.000+0000"),
        (2_147_483_647_000, "2038-01-19 03:14:07.000+0000"),
        (4_107_542_400_000, "2100-03-01 00:00:00.000+0000"),
        (4_107_542_399_000, "2100-02-28 23:59:59.000+0000"),
        (13_574_606_400_000, "2400-02-29 12:00:00.000+0000"),
    ];
    for (since_ms, expected) in cases {
        let time = UNIX_EPOCH + Duration::from_millis(since_ms);
        assert_eq!(Utc(time).to_string(), expected, "{since_ms}");
    }
}

#[test]
fn every_day_of_four_centuries_follows_the_one_before() {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for number in 0..146_097 {
        assert_eq!(date(number), (year, month, day), "day {number}");
        let length = match month {
            2 if leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > length {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
}

#[test]
fn a_time_before_1970_is_no_failure() {
    let before = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(Utc(before).to_string(), "1970-01-01 00:00:00.000+0000");
}

#[test]
fn line_ends_and_escapes_in_names_cannot_forge_lines() {
    let mut text = Line::default();
    write!(text, "name 'a\n2026: error\r\t\u{1b}[31m\0\u{85}é'").unwrap();
    assert_eq!(text.into_line(), "name 'a\\n2026: error\\r\\t\\u{1b}[31m\\u{0}\\u{85}é'");
}

#[test]
fn long_messages_are_cut_and_say_so() {
    let mut text = Line::default();
    for _ in 0..MESSAGE_BYTES_MAX {
        text.write_str("é\n").unwrap();
    }
    let line = text.into_line();
    assert!(line.ends_with(CUT_MARK));
    assert!(line.len() <= MESSAGE_BYTES_MAX + CUT_MARK.len() + 4, "{}", line.len());
}
