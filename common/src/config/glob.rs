//! Patterns of names and paths, which need not be text.

use std::fmt;

/// A pattern: `?` stands for any byte but `/`, `*` for any number of such, `**` for any number of
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Box<[Token]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    DoubleStar,
}

/// Where matching goes on when it has failed: behind a star, which stands for one more byte.
#[derive(Debug, Clone, Copy)]
struct Star {
    token: usize,
    byte: usize,
}

/// Bytes that other programs give a meaning in patterns. They are kept for that.
const RESERVED: [char; 5] = ['[', ']', '{', '}', '\\'];

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(reserved) = text.chars().find(|sign| RESERVED.contains(sign)) {
            return Err(format!("'{reserved}' has no meaning in a pattern; use '?' for it"));
        }
        let mut tokens: Vec<Token> = Vec::new();
        for byte in text.bytes() {
            match (byte, tokens.last_mut()) {
                (b'*', Some(last @ (Token::Star | Token::DoubleStar))) => *last = Token::DoubleStar,
                (b'*', _) => tokens.push(Token::Star),
                (b'?', _) => tokens.push(Token::Any),
                _ => tokens.push(Token::Byte(byte)),
            }
        }
        Ok(Self(tokens.into()))
    }

    /// Returns whether it stands for these bytes. Takes time in proportion to both lengths at the
    /// most, but for patterns with several double stars.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let (mut at, mut star, mut double) = (Star { token: 0, byte: 0 }, None, None);
        loop {
            let (token, byte) = (self.0.get(at.token), bytes.get(at.byte));
            match (token, byte) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    at.token += 1;
                    star = Some(at);
                }
                (Some(Token::DoubleStar), _) => {
                    at.token += 1;
                    // What the tokens before have taken is settled.
                    (star, double) = (None, Some(at));
                }
                (Some(Token::Byte(expected)), Some(byte)) if expected == byte => at = at.next(),
                (Some(Token::Any), Some(byte)) if *byte != b'/' => at = at.next(),
                _ => match retry(&mut star, &mut double, bytes) {
                    Some(next) => at = next,
                    None => return false,
                },
            }
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().flat_map(|token| match token {
            Token::Byte(byte) => std::slice::from_ref(byte),
            Token::Any => b"?",
            Token::Star => b"*",
            Token::DoubleStar => b"**",
        });
        let bytes: Vec<u8> = bytes.copied().collect();
        write!(formatter, "'{}'", String::from_utf8_lossy(&bytes))
    }
}

impl Star {
    fn next(self) -> Self {
        Self { token: self.token + 1, byte: self.byte + 1 }
    }
}

/// Lets the last star stand for one byte more, or else the last double star.
fn retry(star: &mut Option<Star>, double: &mut Option<Star>, bytes: &[u8]) -> Option<Star> {
    if let Some(star) = star
        && bytes.get(star.byte).is_some_and(|byte| *byte != b'/')
    {
        star.byte += 1;
        return Some(*star);
    }
    let double = double.as_mut().filter(|double| double.byte < bytes.len())?;
    double.byte += 1;
    *star = None;
    Some(*double)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn patterns_stand_for_names_and_paths() {
        for (pattern, text) in [
            ("web1", "web1"),
            ("web*", "web"),
            ("web*", "web12"),
            ("*web*", "a-web-b"),
            ("w?b", "wxb"),
            ("*", ""),
            ("*.log", "a.log.log"),
            ("a*b*c", "aXbXbXc"),
            ("/var/log/libvirt/qemu/*", "/var/log/libvirt/qemu/web.log"),
            ("/var/*/console.log", "/var/x/console.log"),
            ("/var/**", "/var/a/b/c"),
            ("**/console.log", "/var/lib/x/console.log"),
            ("/a/**/*.log", "/a/b/c/d.log"),
            ("/a/*/b/**/c", "/a/x/b/b/y/c"),
            ("**a*b", "/a/x/a/axb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_stand_for_nothing_else() {
        for (pattern, text) in [
            ("web1", "web"),
            ("web1", "web12"),
            ("", "a"),
            ("w?b", "wb"),
            ("a?b", "a/b"),
            ("a*b", "a/b"),
            ("/var/log/libvirt/qemu/*", "/var/log/libvirt/qemu/a/b"),
            ("/var/*", "/var"),
            ("/a/**/*.log", "/a/b/c/d.lo"),
            ("*x*", "abc"),
            ("**a*b", "/a/xb/ac"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_shown_as_they_were_written() {
        for text in ["", "web?", "/a/**/b*", "\u{e4}*"] {
            assert_eq!(Glob::parse(text).unwrap().to_string(), format!("'{text}'"));
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        let glob = Glob::parse("w?b*").unwrap();
        assert!(glob.matches(b"w\xffb\xfe\x00"));
        assert!(!glob.matches(b"\xff"));
        assert!(!matches("?", "\u{e4}"), "a byte, not a character");
    }

    #[test]
    fn what_other_programs_give_a_meaning_is_refused() {
        let what = Glob::parse("web[12]").unwrap_err();
        assert_eq!(what, "'[' has no meaning in a pattern; use '?' for it");
        assert!(RESERVED.iter().all(|&sign| Glob::parse(&sign.to_string()).is_err()));
    }

    #[test]
    fn hostile_patterns_take_no_longer_than_their_length() {
        let pattern = format!("{}b", "*a".repeat(100));
        assert!(!matches(&pattern, &"a".repeat(4000)));
        let pattern = format!("{}b", "**a*a".repeat(50));
        assert!(!matches(&pattern, &"a".repeat(4000)));
    }
}
