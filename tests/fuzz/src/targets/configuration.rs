//! Configuration files.

use std::path::Path;

use common::config::{Common, Document, Entry, Error, Value};

/// A file that is accepted says the same when it is written anew, and when blanks and comments are
/// added; a fault is reported with a line of the file. Any accepted file can be asked for all keys.
pub(crate) fn run(bytes: &[u8]) {
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    let document = match Document::parse(Path::new("x.conf"), bytes) {
        Ok(document) => document,
        Err(Error::Syntax { line, .. }) => {
            return assert!((1..=lines).contains(&line), "line {line} of {lines}");
        }
        Err(error) => panic!("not an error of the grammar: {error}"),
    };
    let entries: Vec<_> = document.unknown(&[]).cloned().collect();
    check(&entries, lines);
    let text: Vec<u8> = entries.iter().flat_map(|entry| write(entry, b"")).collect();
    let spaced: Vec<u8> = entries.iter().flat_map(|entry| write(entry, b" \t")).collect();
    for text in [text, spaced] {
        let again = Document::parse(Path::new("x.conf"), &text).expect("what was accepted");
        let again: Vec<_> = again.unknown(&[]).cloned().collect();
        assert!(again.iter().map(told).eq(entries.iter().map(told)), "{again:?}, not {entries:?}");
    }
    read_all(&document);
}

fn told(entry: &Entry) -> (&str, &Value) {
    (&entry.key, &entry.value)
}

fn check(entries: &[Entry], lines: usize) {
    assert!(entries.iter().all(|entry| (1..=lines).contains(&entry.line)));
    assert!(entries.is_sorted_by_key(|entry| entry.line), "lines run backwards");
    for Entry { key, .. } in entries {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(key.bytes().all(is_name) && key.as_bytes()[0].is_ascii_alphabetic());
    }
}

fn read_all(document: &Document) {
    if let Ok(common) = Common::read(document) {
        let sockets = [common.sockets.perms, common.sockets.admin_perms];
        assert!(sockets.into_iter().flatten().all(|perms| perms <= 0o777));
    }
    if let Ok(settings) = virtlogd::config::Settings::read(document)
        && let Some(Entry { value: Value::Unsigned(Some(number)), .. }) = document.entry("max_size")
    {
        assert_eq!(settings.rules.defaults().size_bytes_max, *number);
    }
}

fn write(entry: &Entry, blanks: &[u8]) -> Vec<u8> {
    let mut text = [blanks, entry.key.as_bytes(), blanks, b"=", blanks].concat();
    write_value(&mut text, &entry.value, blanks);
    text.extend_from_slice(blanks);
    if !blanks.is_empty() {
        text.extend_from_slice(b"# a comment = \"\n\n#");
    }
    text.push(b'\n');
    text
}

fn write_value(text: &mut Vec<u8>, value: &Value, blanks: &[u8]) {
    match value {
        Value::Unsigned(Some(number)) => text.extend(format!("{number}").into_bytes()),
        Value::Unsigned(None) => text.extend(b"99999999999999999999"),
        Value::Negative => text.extend(b"-7"),
        Value::String(bytes) => text.extend(quote(bytes)),
        Value::List(values) => {
            text.push(b'[');
            for (index, value) in values.iter().enumerate() {
                text.extend_from_slice(if index == 0 { blanks } else { b"," });
                write_value(text, value, blanks);
            }
            text.extend_from_slice(blanks);
            text.push(b']');
        }
    }
}

/// There are no escapes, so the quotes depend on the content.
fn quote(bytes: &[u8]) -> Vec<u8> {
    let is_in_line = !bytes.iter().any(|byte| b"\n\r".contains(byte));
    let quotes: &[u8] = match () {
        () if is_in_line && !bytes.contains(&b'\'') => b"'",
        () if is_in_line && !bytes.contains(&b'"') => b"\"",
        () => b"\"\"\"",
    };
    // What was cut at a NUL may end with a quote.
    let end: &[u8] = if quotes.len() > 1 && bytes.ends_with(b"\"") { b"\0" } else { b"" };
    [quotes, bytes, end, quotes].concat()
}
