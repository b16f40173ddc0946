//! What a log says of bytes that it does not have.

/// Checks a log byte by byte against what was `sent`: it has all of it, but for gaps that have as
/// many bytes as the line in each place says. Gives how many such lines there are.
///
/// # Panics
/// With the first place that does not fit.
#[track_caller]
pub fn expect_losses(found: &[u8], sent: &[u8]) -> usize {
    let mut furthest = 0;
    let losses = losses(found, sent, &mut furthest);
    let (there, end) = (&found[found.len() - furthest.min(found.len())..], sent.len());
    losses.unwrap_or_else(|| panic!("of {end} bytes sent this does not fit: {}", shown(there)))
}

/// A line about a loss begins on a line of its own: the newline in front of it may be its own, or
/// sent, and only what follows tells.
fn losses(found: &[u8], sent: &[u8], furthest: &mut usize) -> Option<usize> {
    *furthest = if *furthest == 0 { found.len() } else { found.len().min(*furthest) };
    let Some(loss) = Loss::first(found) else {
        return (found == sent).then_some(0);
    };
    let with_newline = &found[..loss.start];
    let without = with_newline.strip_suffix(b"\n");
    [Some(with_newline), without].into_iter().flatten().find_map(|before| {
        let rest = sent.strip_prefix(before)?.get(loss.bytes..)?;
        Some(losses(&found[loss.end..], rest, furthest)? + 1)
    })
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
