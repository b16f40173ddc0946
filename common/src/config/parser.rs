//! The grammar, on bytes. Every rule and message was observed on libvirt 9.0.0's daemons.

use super::value::{Entry, Value};

/// Nesting of lists. Ours; C recurses until its stack ends.
const DEPTH_MAX: usize = 64;

/// Minimum of bytes behind an opening `"""`: content and closing quotes together. libvirt's value;
/// before a shorter rest it is an empty string with garbage behind it.
const TRIPLE_REST_BYTES_MIN: usize = 4;

/// Line, from 1, and fault.
pub(super) type SyntaxError = (usize, &'static str);

/// Parses a whole file; comments are skipped.
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
    /// Parses a line; `None` for a comment.
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
mod tests;
