//! The grammar, on bytes. Every rule and message here was seen on libvirt 9.0.0's daemons.

use super::{Entry, Value};

/// Lists within lists. Ours; C recurses until its stack ends.
const DEPTH_MAX: usize = 64;

/// Bytes that must follow an opening `"""` for it to be one: content and closing quotes together.
/// libvirt's value; a shorter rest is an empty string with garbage behind it.
const TRIPLE_REST_BYTES_MIN: usize = 4;

/// The line, from 1, and what is wrong there.
pub(super) type SyntaxError = (usize, &'static str);

/// Parses a whole file, comments left out.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, SyntaxError> {
    let mut cursor = Cursor { rest: bytes, line: 1 };
    let mut entries = Vec::new();
    while !cursor.rest.is_empty() {
        entries.extend(cursor.statement()?);
        cursor.separator()?;
    }
    Ok(entries)
}

struct Cursor<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Cursor<'a> {
    /// A comment gives no entry.
    fn statement(&mut self) -> Result<Option<Entry>, SyntaxError> {
        self.skip_blanks_and_line_ends();
        if self.skip_comment() {
            return Ok(None);
        }
        let line = self.line;
        let key = self.name()?;
        self.skip_blanks();
        if !self.skip(b"=") {
            return self.fail("expecting an assignment");
        }
        let value = self.value(0)?;
        self.skip_blanks();
        self.skip_comment();
        Ok(Some(Entry { key, line, value }))
    }

    fn separator(&mut self) -> Result<(), SyntaxError> {
        self.skip_blanks();
        match self.peek() {
            Some(b';') => drop(self.take(1)),
            Some(b'\n' | b'\r') | None => {}
            Some(_) => return self.fail("expecting a separator"),
        }
        self.skip_blanks_and_line_ends();
        Ok(())
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return self.fail("expecting a name");
        }
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        Ok(name.iter().copied().map(char::from).collect())
    }

    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.skip_blanks();
        match self.peek() {
            Some(b'"' | b'\'') => self.string().map(Value::String),
            Some(b'[') => self.list(depth).map(Value::List),
            Some(b'-' | b'+' | b'0'..=b'9') => self.number(),
            Some(_) | None => self.fail("expecting a value"),
        }
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let negative = self.skip(b"-");
        if !negative {
            self.skip(b"+");
        }
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return self.fail("unterminated number");
        }
        let number = digits.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        });
        Ok(if negative { Value::Negative } else { Value::Unsigned(number) })
    }

    fn string(&mut self) -> Result<Vec<u8>, SyntaxError> {
        let long = self.rest.strip_prefix(b"\"\"\"");
        let content = match long {
            Some(rest) if rest.len() >= TRIPLE_REST_BYTES_MIN => self.long_string()?,
            Some(_) | None => self.short_string()?,
        };
        let end = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
        Ok(content.iter().copied().take(end).collect())
    }

    fn short_string(&mut self) -> Result<&'a [u8], SyntaxError> {
        let quote = self.take(1);
        let content = self.take_while(|byte| !quote.contains(&byte) && !is_line_end(byte));
        if quote.is_empty() || !self.skip(quote) {
            return self.fail("unterminated string");
        }
        Ok(content)
    }

    fn long_string(&mut self) -> Result<&'a [u8], SyntaxError> {
        const QUOTES: &[u8] = b"\"\"\"";
        self.take(QUOTES.len());
        let length = self.rest.windows(QUOTES.len()).position(|window| window == QUOTES);
        let content = self.take(length.unwrap_or(self.rest.len()));
        self.count_lines(content);
        if !self.skip(QUOTES) {
            return self.fail("unterminated string");
        }
        Ok(content)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, SyntaxError> {
        if depth >= DEPTH_MAX {
            return self.fail("lists nested too deeply");
        }
        self.take(1);
        let mut values = Vec::new();
        loop {
            self.skip_blanks_and_line_ends();
            if self.skip(b"]") {
                return Ok(values);
            }
            if self.rest.is_empty() && values.is_empty() {
                return self.fail("list is not closed with ]");
            }
            values.push(self.value(depth + 1)?);
            self.skip_blanks_and_line_ends();
            if self.skip(b"]") {
                return Ok(values);
            }
            if self.rest.is_empty() {
                return self.fail("list is not closed with ]");
            }
            if !self.skip(b",") {
                return self.fail("expecting a separator in list");
            }
        }
    }

    fn skip_comment(&mut self) -> bool {
        let comment = self.skip(b"#");
        if comment {
            self.take_while(|byte| !is_line_end(byte));
        }
        comment
    }

    fn skip_blanks(&mut self) {
        self.take_while(is_blank);
    }

    fn skip_blanks_and_line_ends(&mut self) {
        let skipped = self.take_while(|byte| is_blank(byte) || is_line_end(byte));
        self.count_lines(skipped);
    }

    fn count_lines(&mut self, bytes: &[u8]) {
        self.line += bytes.iter().filter(|&&byte| byte == b'\n').count();
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self, token: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !wanted(byte));
        self.take(end.unwrap_or(self.rest.len()))
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(count).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, SyntaxError> {
        Err((self.line, what))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "expecting a name";
    const ASSIGNMENT: &str = "expecting an assignment";
    const VALUE: &str = "expecting a value";
    const SEPARATOR: &str = "expecting a separator";
    const LIST_SEPARATOR: &str = "expecting a separator in list";
    const LIST_OPEN: &str = "list is not closed with ]";
    const STRING: &str = "unterminated string";
    const NUMBER: &str = "unterminated number";

    fn single(text: &[u8]) -> Value {
        let mut entries = parse(text).unwrap();
        assert_eq!(entries.len(), 1);
        entries.pop().unwrap().value
    }

    fn number(number: u64) -> Value {
        Value::Unsigned(Some(number))
    }

    #[test]
    fn every_kind_of_value() {
        let cases: [(&[u8], Value); 22] = [
            (b"x=5", number(5)),
            (b"\t x\t=\t007\t", number(7)),
            (b"x=+5", number(5)),
            (b"x=-5", Value::Negative),
            (b"x=18446744073709551615", number(u64::MAX)),
            (b"x=18446744073709551616", Value::Unsigned(None)),
            (b"x=''", Value::String(vec![])),
            (b"x=\"\"", Value::String(vec![])),
            (b"x='a\"b'", Value::String(b"a\"b".into())),
            (b"x=\"a\\\" # c", Value::String(b"a\\".into())),
            (b"x=\"#\xff;\"", Value::String(b"#\xff;".into())),
            (b"x=\"a\0b\"", Value::String(b"a".into())),
            (b"x=\"\"\"a\nb\"\"\"", Value::String(b"a\nb".into())),
            (b"x=\"\"\"\"a\"\"\"", Value::String(b"\"a".into())),
            (b"x=\"\"\"\"\"\"\n", Value::String(vec![])),
            (b"x=[]", Value::List(vec![])),
            (b"x=[\r\n]", Value::List(vec![])),
            (b"x=[1,]", Value::List(vec![number(1)])),
            (b"x=[1\n\n,\n\n'a'\n,\n\n]", Value::List(vec![number(1), Value::String(b"a".into())])),
            (b"x=[[1],-2]#c", Value::List(vec![Value::List(vec![number(1)]), Value::Negative])),
            (b"x=1#c", number(1)),
            (b"X_9=1;", number(1)),
        ];
        for (text, value) in cases {
            let text_shown = String::from_utf8_lossy(text);
            assert_eq!(parse(text).map(|entries| entries.len()), Ok(1), "{text_shown}");
            assert_eq!(single(text), value, "{text_shown}");
        }
    }

    #[test]
    fn every_way_to_separate() {
        let cases: [(&str, &[(&str, usize)]); 8] = [
            ("", &[]),
            ("#", &[]),
            ("#c\n#d\n  # e\n\n \t\n", &[]),
            ("x=1;y=2", &[("x", 1), ("y", 1)]),
            ("x=1 ; # c\ny=2\n  ", &[("x", 1), ("y", 2)]),
            ("x = 1;\r\ny=2\r\n", &[("x", 1), ("y", 2)]),
            ("x = 1\ry = 2", &[("x", 1), ("y", 1)]),
            ("a=\"\"\"1\n2\"\"\"\nb=[\n1\n]\nc=1", &[("a", 1), ("b", 3), ("c", 6)]),
        ];
        for (text, expected) in cases {
            let entries = parse(text.as_bytes()).unwrap();
            let found: Vec<_> =
                entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    /// Each of these texts was given to libvirt's virtlogd, which said the same.
    fn refuse(cases: &[(&[u8], usize, &'static str)]) {
        for &(text, line, what) in cases {
            assert_eq!(parse(text), Err((line, what)), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn every_way_a_value_can_be_wrong() {
        refuse(&[
            (b"x=\"\"\"abcd", 1, STRING),
            (b"x=\"", 1, STRING),
            (b"x='", 1, STRING),
            (b"x=\"abc\ny=1", 1, STRING),
            (b"x=-", 1, NUMBER),
            (b"x=+\n", 1, NUMBER),
            (b"x=- 5", 1, NUMBER),
            (b"x=[,]", 1, VALUE),
            (b"x=[1,,2]", 1, VALUE),
            (b"x=[1 2]", 1, LIST_SEPARATOR),
            (b"x=[1;2]", 1, LIST_SEPARATOR),
            (b"x=[1 # c\n,2]", 1, LIST_SEPARATOR),
            (b"x=[ # c\n1]", 1, VALUE),
            (b"x=[1,", 1, VALUE),
            (b"x=[", 1, LIST_OPEN),
            (b"x=[1", 1, LIST_OPEN),
            (b"x=[1\n", 2, LIST_OPEN),
            (b"x=[\n;1]", 2, VALUE),
            (b"x=[\"a\nb\"]", 1, STRING),
            (b"x=", 1, VALUE),
            (b"x= \n", 1, VALUE),
            (b"x=\r\n1", 1, VALUE),
            (b"x=;", 1, VALUE),
            (b"x=abc", 1, VALUE),
            (b"x={}", 1, VALUE),
            (b"x= # c\n 1", 1, VALUE),
        ]);
    }

    #[test]
    fn every_way_the_rest_can_be_wrong() {
        refuse(&[
            (b"x=5 y=2", 1, SEPARATOR),
            (b"x=\"x\\\"y\"", 1, SEPARATOR),
            (b"x=\"\"\"a", 1, SEPARATOR),
            (b"x=\"\"\"\"\"\"", 1, SEPARATOR),
            (b"x=\"\"\"", 1, SEPARATOR),
            (b"x=0x10", 1, SEPARATOR),
            (b"x=[1]]", 1, SEPARATOR),
            (b"x=[1]y=2", 1, SEPARATOR),
            (b"_x=1", 1, NAME),
            (b"1x=1", 1, NAME),
            (b"x.y=1", 1, ASSIGNMENT),
            (b"x-y=1", 1, ASSIGNMENT),
            (b"x", 1, ASSIGNMENT),
            (b"x\n=1", 1, ASSIGNMENT),
            (b"=5", 1, NAME),
            (b"\xef\xbb\xbfx=1", 1, NAME),
            (b"\xc3\xa9=1", 1, NAME),
            (b"\x0cx=1", 1, NAME),
            (b"\0", 1, NAME),
            (b";", 1, NAME),
            (b"x=1;;y=2", 1, NAME),
            (b"x=1 \n;y=1", 2, NAME),
            (b"# c\n ;", 2, NAME),
            (b" ", 1, NAME),
            (b"\n\n", 3, NAME),
            (b"\r", 1, NAME),
            (b"x=1\0garbage", 1, SEPARATOR),
            (b"x=1\x0b", 1, SEPARATOR),
            (b"x=5a", 1, SEPARATOR),
            (b"x=\"a\"y=1", 1, SEPARATOR),
            (b"x=\"\"\"a\"\"\"\"", 1, SEPARATOR),
            (b"x=\"\" \"\"", 1, SEPARATOR),
            (b"\n\n\nx", 4, ASSIGNMENT),
            (b"x=\"\"\"x\r\ny\"\"\"\nq", 3, ASSIGNMENT),
            (b"#a\r#b\nx", 2, ASSIGNMENT),
            (b"x=[\"\"\"a\nb\"\"\"]\n\ny", 4, ASSIGNMENT),
        ]);
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let nested = |depth: usize| format!("x={}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        let error = parse(nested(1_000_000).as_bytes()).unwrap_err();
        assert_eq!(error, (1, "lists nested too deeply"));
    }

    fn written(value: &Value) -> String {
        match value {
            Value::Unsigned(number) => number.unwrap().to_string(),
            Value::Negative => "-1".to_owned(),
            Value::String(bytes) => format!("'{}'", str::from_utf8(bytes).unwrap()),
            Value::List(values) => {
                format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(" ,\n"))
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u64>().prop_map(number),
            Just(Value::Negative),
            "[a-z#;\"= ]{0,8}".prop_map(|text| Value::String(text.into_bytes())),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(Value::List)
        })
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes));
        }

        #[test]
        fn arbitrary_grammar_pieces_never_panic(text in "[x1\"'\\[\\],;#=+\\- \n\r]{0,60}") {
            let lines = text.matches('\n').count() + 1;
            if let Err((line, _)) = parse(text.as_bytes()) {
                prop_assert!((1..=lines).contains(&line));
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            pairs in prop::collection::vec(("[a-zA-Z][a-z0-9_]{0,5}", any_value()), 0..6),
        ) {
            let text: String = pairs
                .iter()
                .map(|(key, value)| format!(" {key} = {} # c\n", written(value)))
                .collect();
            let entries = parse(text.as_bytes()).unwrap();
            let found: Vec<_> =
                entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            prop_assert_eq!(found, pairs);
        }
    }
}
