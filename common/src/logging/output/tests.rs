use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Outputs, Invalid> {
    Outputs::parse(text, Path::new("/run"))
}

#[test]
fn outputs_read_back_as_libvirt_writes_them() {
    let cases = [
        ("", "", 0),
        ("   ", "", 0),
        ("3:stderr", "3:stderr", 1),
        (" 1:file:/x.log   03:stderr ", "1:file:/x.log 3:stderr", 2),
        ("1:file:relative.log", "1:file:/run/relative.log", 1),
        ("1:file:./r.log", "1:file:/run/r.log", 1),
        ("1:file:w/../r.log", "1:file:/run/r.log", 1),
        ("1:file:../../a//./b/../r.log/.", "1:file:/a/r.log", 1),
        ("1:file://x/../r.log", "1:file://r.log", 1),
        ("1:file:///r.log//", "1:file:/r.log", 1),
        ("1:file:..", "1:file:/", 1),
        ("1:file:", "1:file:/run", 1),
        ("3:syslog:abc +2:syslog:", "3:syslog:abc 2:syslog:", 2),
        ("3:journald", "3:journald", 1),
        ("1:stderr 2:journald 4:stderr", "2:journald 4:stderr", 2),
        ("1:file:/a 2:file:/b 3:file:/a", "2:file:/b 3:file:/a", 2),
        ("1:file:/a 2:file:/b/../a", "2:file:/a", 1),
    ];
    for (text, shown, count) in cases {
        let outputs = parse(text).unwrap();
        assert_eq!(outputs.to_string(), shown, "{text:?}");
        assert_eq!(outputs.count(), count, "{text:?}");
    }
}

#[test]
fn errors_are_libvirts() {
    let parts = |item: &str, destination: &str| {
        format!(
            "Log output '{item}' does not meet the format requirements for destination type \
             '{destination}'"
        )
    };
    let level =
        |level: &str, item: &str| format!("Invalid log priority '{level}' for log output '{item}'");
    let destination = |destination: &str, item: &str| {
        format!("Invalid log destination '{destination}' for log output '{item}'")
    };
    let cases = [
        ("1", "Malformed format for log output '1'".to_owned()),
        ("x", "Malformed format for log output 'x'".to_owned()),
        (":", level("", ":")),
        (":stderr", level("", ":stderr")),
        ("x:stderr", level("x", "x:stderr")),
        ("9:stderr", level("9", "9:stderr")),
        ("-1:stderr", level("-1", "-1:stderr")),
        ("5:nosuch:x", level("5", "5:nosuch:x")),
        ("4294967297:stderr", level("4294967297", "4294967297:stderr")),
        ("1:", destination("", "1:")),
        ("1:bogus", destination("bogus", "1:bogus")),
        ("1:FILE:/x", destination("FILE", "1:FILE:/x")),
        ("1:file", parts("1:file", "file")),
        ("1:file:/a:b", parts("1:file:/a:b", "file")),
        ("1:syslog", parts("1:syslog", "syslog")),
        ("1:stderr:", parts("1:stderr:", "stderr")),
        ("1:stderr:foo", parts("1:stderr:foo", "stderr")),
        ("1:journald:x", parts("1:journald:x", "journald")),
        ("1:stderr 1:bogus", destination("bogus", "1:bogus")),
    ];
    for (text, error) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), error, "{text:?}");
    }
}

#[test]
fn the_number_of_outputs_is_limited() {
    let files = |count: usize| (0..count).map(|n| format!("1:file:/{n} ")).collect::<String>();
    assert!(parse(&files(OUTPUTS_MAX)).is_ok());
    let error = parse(&files(OUTPUTS_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "more than 64 log outputs");
    assert!(parse(&"1:stderr ".repeat(1000)).is_ok());
}

proptest! {
    #[test]
    fn what_is_read_back_can_be_set_again(
        text in "([1-4]:(stderr|journald|syslog:[a-c]?|file:/?[a-c]{1,3}) ){0,6}",
    ) {
        let outputs = parse(&text).unwrap();
        prop_assert_eq!(parse(&outputs.to_string()).unwrap(), outputs);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[1-5:a-z/ ]{0,40}|\\PC{0,40}") {
        drop(parse(&text));
    }
}
