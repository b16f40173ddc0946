//! What a log says of bytes that it does not have.

/// Checks a log byte by byte against what was `sent`: it has all of it, but for gaps that have as
/// many bytes as the line in each place says. Gives how many such lines there are.
///
/// # Panics
/// With the first place that does not fit.
#[track_caller]
pub fn expect_losses(found: &[u8], sent: &[u8]) -> usize {
    let mut losses = 0;
    let (mut found, mut sent) = (found, sent);
    loop {
        let Some(loss) = Loss::first(found) else {
            assert!(found == sent, "the end: {} is not {}", shown(found), shown(sent));
            return losses;
        };
        let before = &found[..loss.start];
        let before = match sent.starts_with(before) {
            true => before,
            // A line of its own begins on a line of its own.
            false => before.strip_suffix(b"\n").unwrap_or(before),
        };
        let rest = sent.strip_prefix(before);
        let rest = rest.unwrap_or_else(|| panic!("before a loss: {}", shown(before)));
        assert!(rest.len() >= loss.bytes, "more was lost than there was: {}", loss.bytes);
        (found, sent) = (&found[loss.end..], &rest[loss.bytes..]);
        losses += 1;
    }
}

struct Loss {
    start: usize,
    end: usize,
    bytes: usize,
}

impl Loss {
    const BEFORE: &str = ": virtlogd: ";
    const BEHIND: &str = " bytes of this log were lost between ";

    fn first(found: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(found);
        assert!(text.len() == found.len(), "tests write ASCII");
        let behind = text.find(Self::BEHIND)?;
        let start = text[..behind].rfind('\n').map_or(0, |newline| newline + 1);
        let number = text[start..behind].split_once(Self::BEFORE).expect("who says it").1;
        let end = behind + text[behind..].find('\n').expect("a whole line") + 1;
        Some(Self { start, end, bytes: number.parse().expect("a number of bytes") })
    }
}

fn shown(bytes: &[u8]) -> String {
    let beginning = &bytes[..bytes.len().min(100)];
    let end = &bytes[bytes.len() - bytes.len().min(100)..];
    let text = String::from_utf8_lossy;
    format!("{} bytes, {:?} to {:?}", bytes.len(), text(beginning), text(end))
}
