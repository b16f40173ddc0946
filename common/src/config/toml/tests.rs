use super::*;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    name: Option<TomlValue>,
    size: Option<TomlValue>,
    count: Option<TomlValue>,
}

type Values = (Option<String>, Option<u64>, Option<u64>);

fn read(text: &str) -> Result<Values, String> {
    let toml = Toml { path: Path::new("x.toml"), text };
    let read = || {
        let Tables { name, size, count } = toml.read()?;
        Ok((
            toml.string("name", name.as_ref(), 3)?.map(str::to_owned),
            toml.size_bytes("size", size.as_ref(), &(1..=1 << 40))?,
            toml.number("count", count.as_ref(), &(0..=32))?,
        ))
    };
    read().map_err(|error: Error| error.to_string())
}

#[test]
fn values_are_read() {
    assert_eq!(read("").unwrap(), (None, None, None));
    let all = read("name = 'a*'\nsize = \"10 MiB\"\ncount = 32\n").unwrap();
    assert_eq!(all, (Some("a*".into()), Some(10 << 20), Some(32)));
    for (text, bytes) in [
        ("7", 7),
        ("0x10", 16),
        ("'7B'", 7),
        ("'2KiB'", 2048),
        ("'3  GiB'", 3 << 30),
        ("'1 TiB'", 1 << 40),
    ] {
        assert_eq!(read(&format!("size = {text}")).unwrap().1, Some(bytes), "{text}");
    }
}

#[test]
fn errors_name_the_place_the_key_and_what_is_allowed() {
    let size = "'size' has to be a number of bytes, or a string such as \"10 MiB\" with one of \
                the units B, KiB, MiB, GiB and TiB";
    let range = "'size' has to be in range 1:1099511627776 bytes";
    let name = "'name' has to be a string of 1 to 3 bytes";
    let count = "'count' has to be an integer in range 0:32";
    for (text, place, what) in [
        ("size = '10'", "1:8", size),
        ("size = '10 MB'", "1:8", size),
        ("size = '-1 B'", "1:8", size),
        ("size = '1.5 GiB'", "1:8", size),
        ("size = '99999999999 TiB'", "1:8", size),
        ("size = '99999999999999999999 B'", "1:8", size),
        ("\n  size = [1, {a = 2}]", "2:10", size),
        ("size = -5", "1:8", size),
        ("size = 0", "1:8", range),
        ("size = '2 TiB'", "1:8", range),
        ("name = ''", "1:8", name),
        ("name = 'abcd'", "1:8", name),
        ("name = 5", "1:8", name),
        ("# \u{e4}\ncount = 33", "2:9", count),
        ("count = '3'", "1:9", count),
        ("count = 1.0", "1:9", count),
        ("count = true", "1:9", count),
        ("count = 2026-11-29", "1:9", count),
        ("count = {}", "1:9", count),
    ] {
        assert_eq!(read(text).unwrap_err(), format!("x.toml:{place}: {what}"), "{text}");
    }
}

#[test]
fn unknown_keys_and_wrong_grammar_are_refused_in_one_line() {
    let unknown = "x.toml:2:3: unknown field `sice`, expected one of `name`, `size`, `count`";
    assert_eq!(read("name = 'a'\n  sice = 1").unwrap_err(), unknown);
    for (text, place) in
        [("name = ", "1:8"), ("\n\u{e4}", "2:2"), ("name = 'a'\nname = 'b'", "2:1")]
    {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(&format!("x.toml:{place}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let error = Toml::new(Path::new("x"), b"a = 1\nb = '\xff'").unwrap_err();
    assert_eq!(error.to_string(), "x:2:6: expected UTF-8");
}

#[test]
fn the_file_lies_beside_libvirts() {
    let path = |conf: &str| beside(Path::new(conf));
    assert_eq!(path("/etc/libvirt/virtlogd.conf"), Some("/etc/libvirt/virtlogd.toml".into()));
    assert_eq!(path("settings"), Some("settings.toml".into()));
    assert_eq!(path("/x/y.toml"), None);
}

#[test]
fn an_absent_file_is_an_empty_one_and_a_large_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    assert!(Toml::load(&path).unwrap().is_empty());
    std::fs::write(&path, vec![b'#'; TOML_BYTES_MAX]).unwrap();
    assert_eq!(Toml::load(&path).unwrap().len(), TOML_BYTES_MAX);
    std::fs::write(&path, vec![b'#'; TOML_BYTES_MAX + 1]).unwrap();
    assert!(matches!(Toml::load(&path), Err(Error::Read { .. })));
    assert!(matches!(Toml::load(directory.path()), Err(Error::Read { .. })));
}
