use super::*;
use std::fs;

fn document(text: &str) -> Document {
    Document::parse(Path::new("/x.conf"), text.as_bytes()).unwrap()
}

#[test]
fn getters_give_what_stands_in_the_file() {
    let doc = document("a = 'text'\nb = 4294967295\nc = 18446744073709551615");
    assert_eq!(doc.string("a").unwrap().as_deref(), Some("text"));
    assert_eq!(doc.u32("b").unwrap(), Some(u32::MAX));
    assert_eq!(doc.u64("c").unwrap(), Some(u64::MAX));
    assert_eq!(doc.u64("d").unwrap(), None);
    assert_eq!(doc.string("d").unwrap(), None);
}

#[test]
fn the_first_of_a_repeated_key_counts_and_later_types_do_not_matter() {
    let doc = document("a = 1\na = 'x'\nb = 'x'\nb = 1");
    assert_eq!(doc.u32("a").unwrap(), Some(1));
    assert!(doc.u32("b").is_err());
}

#[test]
fn type_errors_have_libvirts_text() {
    let doc = document("s = 'x'\nn = -1\nz = -0\nl = [1]\nu = 5");
    for key in ["s", "n", "z", "l"] {
        assert_eq!(
            doc.u64(key).unwrap_err().to_string(),
            format!("internal error: /x.conf: expected an unsigned integer for '{key}' parameter")
        );
    }
    assert_eq!(
        doc.string("u").unwrap_err().to_string(),
        "internal error: /x.conf: expected a string for 'u' parameter"
    );
}

#[test]
fn numbers_that_do_not_fit_are_range_errors() {
    let doc = document("a = 4294967296\nb = 18446744073709551617\nc = 9999999999999999999999");
    assert_eq!(
        doc.u32("a").unwrap_err().to_string(),
        "internal error: /x.conf: value for 'a' parameter must be in range 0:4294967295"
    );
    assert_eq!(doc.u64("a").unwrap(), Some(4_294_967_296));
    for key in ["b", "c"] {
        let text = doc.u64(key).unwrap_err().to_string();
        assert!(text.ends_with("must be in range 0:18446744073709551615"), "{text}");
        assert!(doc.u32(key).is_err());
    }
}

#[test]
fn unknown_keys_are_listed_with_their_lines() {
    let doc = document("max_size = 1\n\nmax_sise = 2; x = [1]\n");
    let unknown: Vec<_> =
        doc.unknown(&["max_size"]).map(|entry| (entry.key.as_str(), entry.line)).collect();
    assert_eq!(unknown, [("max_sise", 3), ("x", 3)]);
}

#[test]
fn strings_that_are_no_utf8_keep_their_bytes() {
    let doc = Document::parse(Path::new("p"), b"a = '/\xff'").unwrap();
    assert_eq!(doc.os_string("a").unwrap().unwrap().as_bytes(), b"/\xff");
    assert_eq!(doc.string("a").unwrap().as_deref(), Some("/\u{fffd}"));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.conf");
    let shown = path.display().to_string();
    let failure = |path: &Path| Document::load(path).unwrap_err().to_string();

    let text = failure(&path);
    assert_eq!(text, format!("Failed to open file '{shown}': No such file or directory"));
    let text = failure(dir.path());
    assert_eq!(text, format!("Failed to read file '{}': Is a directory", dir.path().display()));
    fs::write(&path, vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
    let text = failure(&path);
    let too_large = "Value too large for defined data type";
    assert_eq!(text, format!("Failed to read file '{shown}': {too_large}"));
    fs::write(&path, vec![b'#'; FILE_BYTES_MAX]).unwrap();
    assert!(Document::load(&path).is_ok());
    fs::write(&path, "x = 1\ny").unwrap();
    let text = failure(&path);
    let what = "expecting an assignment";
    assert_eq!(text, format!("configuration file syntax error: {shown}:2: {what}"));
}
