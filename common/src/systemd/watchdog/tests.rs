use super::*;

fn period(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    ping_period(7, |name| if name == "WATCHDOG_USEC" { usec } else { pid }.map(Into::into))
}

#[test]
fn it_is_half_of_what_is_allowed() {
    assert_eq!(period(Some("2000000"), Some("7")), Some(Duration::from_secs(1)));
    assert_eq!(period(Some("2000000"), None), Some(Duration::from_secs(1)));
}

#[test]
fn what_is_not_meant_for_us_or_no_number_counts_for_nothing() {
    assert_eq!(period(Some("2000000"), Some("8")), None);
    assert_eq!(period(Some("2000000"), Some("x")), None);
    assert_eq!(period(Some("-1"), Some("7")), None);
    assert_eq!(period(Some("0"), Some("7")), None);
    assert_eq!(period(None, Some("7")), None);
}
