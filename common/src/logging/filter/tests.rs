use super::*;
use proptest::prelude::*;

#[test]
fn filters_read_back_as_libvirt_writes_them() {
    let cases = [
        ("", ""),
        ("   ", ""),
        ("1:rpc", "1:*rpc* "),
        ("1:rpc 3:util.json 4:event", "1:*rpc* 3:*util.json* 4:*event* "),
        ("  1:rpc   1:rpc ", "1:*rpc* 1:*rpc* "),
        ("1:*rpc*", "1:**rpc** "),
        ("01:a +2:b", "1:*a* 2:*b* "),
        ("1:+a 1:++b", "1:*a* 1:*+b* "),
        ("1:a:b", "1:*a* "),
        ("1:x\t2:y", "1:*x\t2* "),
    ];
    for (text, shown) in cases {
        let filters = Filters::parse(text).unwrap();
        assert_eq!(filters.to_string(), shown, "{text:?}");
        assert_eq!(filters.count(), shown.matches(' ').count(), "{text:?}");
        assert_eq!(filters.items().len(), filters.count());
    }
}

#[test]
fn errors_are_libvirts() {
    let cases = [
        ("garbage", "Malformed format for filter 'garbage'"),
        ("1", "Malformed format for filter '1'"),
        ("1 :a", "Malformed format for filter '1'"),
        (":", "Invalid priority '' for filter ':'"),
        (":x", "Invalid priority '' for filter ':x'"),
        ("5:rpc", "Invalid priority '5' for filter '5:rpc'"),
        ("0:x", "Invalid priority '0' for filter '0:x'"),
        ("-1:a", "Invalid priority '-1' for filter '-1:a'"),
        ("4294967297:a", "Invalid priority '4294967297' for filter '4294967297:a'"),
        ("1:", "Invalid match string ''"),
        ("1:+", "Invalid match string '+'"),
        ("1::b", "Invalid match string ''"),
        ("1:+:", "Invalid match string '+'"),
        ("1:a 9:b x", "Invalid priority '9' for filter '9:b'"),
    ];
    for (text, error) in cases {
        assert_eq!(Filters::parse(text).unwrap_err().to_string(), error, "{text:?}");
    }
}

#[test]
fn the_number_of_filters_is_limited() {
    assert!(Filters::parse(&"1:a ".repeat(FILTERS_MAX)).is_ok());
    let error = Filters::parse(&"1:a ".repeat(FILTERS_MAX + 1)).unwrap_err();
    assert_eq!(error.to_string(), "more than 1024 log filters");
}

#[test]
fn the_first_match_decides() {
    let filters = Filters::parse("4:rpc.net 1:rpc 2:lock*mon").unwrap();
    assert_eq!(filters.level("rpc.netserver"), Some(Level::Error));
    assert_eq!(filters.level("rpc.keepalive"), Some(Level::Debug));
    assert_eq!(filters.level("locking.lock_daemon"), Some(Level::Info));
    assert_eq!(filters.level("util.conf"), None);
    assert_eq!(filters.level_min(), Some(Level::Debug));
    assert_eq!(Filters::default().level_min(), None);
}

#[test]
fn patterns_match_as_the_shell_does() {
    let matching = [
        ("", ""),
        ("*", ""),
        ("**", "a"),
        ("*a*", "a"),
        ("*rpc*", "virt.rpc.x"),
        ("?", "é"),
        ("a?c", "abc"),
        ("*a?c*d", "xxabcabcd"),
        ("*ab*ab", "abaab"),
        ("a*", "a"),
    ];
    for (pattern, text) in matching {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    let differing =
        [("", "a"), ("a", ""), ("?", ""), ("*?", ""), ("a", "ab"), ("ab", "a"), ("*b", "ba")];
    for (pattern, text) in differing {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}

/// The definition, spelled out; exponential, so for short patterns only.
fn fits(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        (['*', rest @ ..], _) => (0..=text.len()).any(|end| fits(rest, &text[end..])),
        (['?', rest @ ..], [_, after @ ..]) => fits(rest, after),
        ([one, rest @ ..], [two, after @ ..]) => one == two && fits(rest, after),
        (_, []) => false,
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_its_definition(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(matches(&pattern, &text), fits(&chars(&pattern), &chars(&text)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9:+* a-c\\PC]{0,40}") {
        if let Ok(filters) = Filters::parse(&text) {
            prop_assert_eq!(filters.items().concat().len() + filters.count(),
                filters.to_string().len());
        }
    }
}
