use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// A daemon whose items have these places and are so many bytes large.
struct Listed(BTreeMap<Place, usize>);

impl Target for Listed {
    fn status(&self) -> Status {
        Status { daemon: "virtlogd".to_owned(), ..Status::default() }
    }

    fn counters(&self) -> Counters {
        Counters { daemon: "virtlogd".to_owned(), ..Counters::default() }
    }

    fn list(&self, after: Place, page: &mut Page) {
        for (&place, &bytes) in self.0.range(after..).filter(|(place, _)| **place > after) {
            let item = json!({ "place": place.to_string(), "fill": "x".repeat(bytes) });
            if page.push(place, &item).is_break() {
                return;
            }
        }
    }
}

fn place(number: u64, holder: u64) -> Place {
    Place { number, holder }
}

fn listed(places: impl IntoIterator<Item = Place>) -> Listed {
    Listed(places.into_iter().map(|place| (place, 0)).collect())
}

fn call(target: &Listed, procedure: i32, arguments: &[u8]) -> Result<Value, Error> {
    let mut writer = Writer::new();
    writer.opaque(arguments);
    let call = Call { procedure, arguments: writer.into_bytes(), fds: Vec::new() };
    let reply = dispatch(&call, target)?;
    Ok(serde_json::from_slice(Reader::new(&reply.payload).opaque(u32::MAX).unwrap()).unwrap())
}

/// Returns the places on the next page, and the cursor behind it.
fn page(target: &Listed, after: Option<&str>, limit_bytes: u64) -> (Vec<String>, Option<String>) {
    let arguments =
        ListArguments { after: after.map(str::to_owned), limit_bytes: Some(limit_bytes) };
    let json = serde_json::to_vec(&arguments).unwrap();
    let answer = call(target, procedure::LIST, &json).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let items = answer["items"].as_array().unwrap();
    (items.iter().filter_map(|item| text(&item["place"])).collect(), text(&answer["next"]))
}

fn all_pages(
    target: &mut Listed,
    limit_bytes: u64,
    mut between: impl FnMut(&mut Listed),
) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (places, next) = page(target, after.as_deref(), limit_bytes);
        all.extend(places);
        if next.is_none() {
            return all;
        }
        after = next;
        between(target);
    }
}

#[test]
fn pages_of_any_size_list_everything_once_and_in_order() {
    let places = || (1..30).map(|number| place(number, number % 3));
    let expected: Vec<_> = places().map(|place| place.to_string()).collect();
    for limit_bytes in [0, 1, 100, 1000, u64::MAX] {
        assert_eq!(all_pages(&mut listed(places()), limit_bytes, |_| {}), expected);
    }
    assert_eq!(all_pages(&mut listed([]), 0, |_| {}), [""; 0]);
}

#[test]
fn what_was_there_throughout_is_listed_once_whatever_comes_and_goes() {
    let mut target = listed((10..30).map(|number| place(number, 0)));
    let mut round = 0;
    let found = all_pages(&mut target, 60, |target| {
        target.0.remove(&place(10 + 4 * round, 0));
        target.0.insert(place(100 + round, 0), 0);
        target.0.insert(place(15, 1 + round), 0);
        round += 1;
    });
    let stayed = (10..30).filter(|number| (number - 10) % 4 != 0);
    for place in stayed.map(|number| place(number, 0).to_string()) {
        assert_eq!(found.iter().filter(|it| **it == place).count(), 1, "{place}: {found:?}");
    }
    let distinct: std::collections::HashSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), found.len());
}

#[test]
fn a_page_has_no_more_bytes_than_its_limit_but_for_a_single_item() {
    let sizes = [10, PAGE_BYTES_MAX, 1000, 1000, PAGE_BYTES_MAX + 1, 0];
    let places = (1..).map(|number| place(number, 0)).zip(sizes);
    let target = Listed(places.collect());
    let pages = [(None, 1), (Some("1"), 1), (Some("2"), 2), (Some("4"), 1), (Some("5"), 1)];
    for (after, count) in pages {
        assert_eq!(page(&target, after, u64::MAX).0.len(), count, "{after:?}");
    }
    assert_eq!(page(&target, Some("2"), 1500).0.len(), 1);
}

#[test]
fn damaged_arguments_are_refused_and_unknown_ones_ignored() {
    let target = listed([place(1, 0)]);
    for arguments in [&b""[..], b"{", b"[", b"null x", b"\xff", br#"{"after":1}"#] {
        let error = call(&target, procedure::LIST, arguments).unwrap_err();
        assert!(error.message().contains("the arguments are no JSON of this call"), "{error:?}");
    }
    let error = call(&target, procedure::LIST, br#"{"after":"x"}"#).unwrap_err();
    assert_eq!(error.message(), "invalid argument: 'x' is no place in the list");
    let later = br#"{"later":{"a":[1]},"after":"0"}"#;
    assert_eq!(call(&target, procedure::LIST, later).unwrap()["items"][0]["place"], "1");
    assert_eq!(call(&target, procedure::STATUS, br#"{"later":1}"#).unwrap()["daemon"], "virtlogd");
    assert!(call(&target, procedure::STATUS, b"{").is_err());
}

#[test]
fn arguments_that_are_too_long_or_cut_off_are_refused() {
    let target = listed([]);
    let long = vec![b' '; ARGUMENTS_BYTES_MAX as usize + 1];
    assert_eq!(call(&target, procedure::LIST, &long), Err(Error::undecodable()));
    let arguments = vec![0, 0, 0, 9, b'{'];
    let call = Call { procedure: procedure::LIST, arguments, fds: Vec::new() };
    assert_eq!(dispatch(&call, &target).unwrap_err(), Error::undecodable());
}

#[test]
fn bytes_that_are_not_utf_8_are_there_in_hexadecimal() {
    for (bytes, json) in
        [(&b"/a/b"[..], json!("/a/b")), (b"\xffx", json!({ "text": "\u{fffd}x", "hex": "ff78" }))]
    {
        assert_eq!(serde_json::to_value(Bytes::from(bytes)).unwrap(), json);
        assert_eq!(serde_json::from_value::<Bytes>(json).unwrap(), Bytes::from(bytes));
    }
}

#[test]
fn items_of_a_later_version_are_read() {
    let log: Log = serde_json::from_value(json!({ "state": "singing", "mood": 1 })).unwrap();
    assert_eq!(log, Log { state: LogState::Unknown, ..Log::default() });
}
