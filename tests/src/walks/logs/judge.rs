//! Whether a log has what was sent: every byte once and in order, or told as lost.

use std::collections::BTreeSet;
use std::ops::Range;

/// What was sent to one log by all of its guests.
#[derive(Debug, Default, Clone)]
pub(super) struct Sent {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Writes of which nobody knows whether they came about: a guest was killed in one.
    pub(super) doubtful: Vec<Range<usize>>,
}

/// How far a log has got, by all that can be told: bytes of what was sent that it has or has told
/// as lost. There may be several answers, as a newline may be the guest's or the daemon's.
pub(super) type Ends = BTreeSet<usize>;

/// A part of a log.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes were lost.
    Loss(usize),
    /// A line of a manager's, by its number.
    Appended(u64),
}

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How far it has got.
    pub(super) ends: Ends,
    /// Lines about losses.
    pub(super) losses: usize,
    /// Bytes that were lost.
    pub(super) lost: usize,
    /// Lines of managers, in their order.
    pub(super) appended: Vec<u64>,
}

const LOST: &str = " bytes of this log were lost between ";
const TIME: &str = "2026-01-01 00:00:00.000+0000";
const WHO: &str = ": virtlogd: ";
const APPENDED: &str = "<<appended ";
const APPENDED_END: &str = ">>\n";

/// The text of a manager's line.
pub(super) fn appended(number: u64) -> String {
    format!("{APPENDED}{number}{APPENDED_END}")
}

/// Judges a log.
///
/// # Errors
/// Says what does not fit.
pub(super) fn judge(found: &[u8], sent: &Sent) -> Result<Verdict, String> {
    let text = str::from_utf8(found).map_err(|error| format!("no text: {error}"))?;
    let mut verdict = Verdict { ends: close(sent, [0]), ..Verdict::default() };
    let pieces = pieces(text)?;
    for (index, piece) in pieces.iter().enumerate() {
        let before = verdict.ends.clone();
        match *piece {
            Piece::Bytes(bytes) => {
                let is_told = matches!(pieces.get(index + 1), Some(Piece::Loss(_)));
                verdict.ends = after_bytes(sent, &before, bytes, is_told);
                if verdict.ends.is_empty() {
                    return Err(misfit(sent, &before, bytes));
                }
            }
            Piece::Loss(lost) => {
                let skipped = before.iter().flat_map(|&at| skip(sent, at, lost));
                verdict.ends = close(sent, skipped.collect::<Vec<_>>());
                verdict.losses += 1;
                verdict.lost += lost;
                if verdict.ends.is_empty() {
                    return Err(format!(
                        "{lost} bytes are said to be lost, at {before:?} of {} sent",
                        sent.bytes.len()
                    ));
                }
            }
            Piece::Appended(number) => verdict.appended.push(number),
        }
    }
    Ok(verdict)
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let loss = rest.find(LOST).map(|at| rest[..at].rfind('\n').map_or(0, |line| line + 1));
        let appended = rest.find(APPENDED);
        let next = loss.into_iter().chain(appended).min();
        let (bytes, behind) = rest.split_at(next.unwrap_or(rest.len()));
        if !bytes.is_empty() {
            pieces.push(Piece::Bytes(bytes.as_bytes()));
        }
        if behind.is_empty() {
            break;
        }
        // What is not whole yet will be, or is wrong when this is the last word.
        let end = behind.find('\n').ok_or("a line of the daemon's is not whole")?;
        let (line, behind) = behind.split_at(end + 1);
        rest = behind;
        pieces.push(if appended == next {
            let number = line.strip_prefix(APPENDED).and_then(|l| l.strip_suffix(APPENDED_END));
            let number = number.and_then(|number| number.parse().ok());
            Piece::Appended(number.ok_or_else(|| format!("what is {line}?"))?)
        } else {
            // Nothing but the time is in front of it: bytes of a guest's would not be looked at.
            let said = line.split_once(WHO).filter(|(time, _)| time.len() == TIME.len());
            let number = said.and_then(|(_, said)| said.split(' ').next()?.parse().ok());
            Piece::Loss(number.ok_or_else(|| format!("what is {line}?"))?)
        });
    }
    Ok(pieces)
}

/// In front of a line about a loss a newline may be the daemon's own.
fn after_bytes(sent: &Sent, from: &Ends, bytes: &[u8], is_told: bool) -> Ends {
    let without = bytes.strip_suffix(b"\n").filter(|_| is_told);
    let variants = [Some(bytes), without];
    let ends = from.iter().flat_map(|&at| {
        variants.iter().flatten().flat_map(move |variant| follow(sent, at, variant))
    });
    close(sent, ends.collect::<Vec<_>>())
}

/// Where one may be who was at `at` and has seen these bytes.
fn follow(sent: &Sent, at: usize, bytes: &[u8]) -> Vec<usize> {
    let Some(doubt) = next_doubt(sent, at).filter(|doubt| doubt.start < at + bytes.len()) else {
        let fits = sent.bytes.get(at..at + bytes.len()) == Some(bytes);
        return if fits { vec![at + bytes.len()] } else { Vec::new() };
    };
    let (before, behind) = bytes.split_at(doubt.start - at);
    if sent.bytes.get(at..doubt.start) != Some(before) {
        return Vec::new();
    }
    let mut ends = follow(sent, doubt.end, behind);
    if sent.bytes[doubt.clone()].starts_with(behind) {
        ends.push(doubt.start + behind.len());
    } else if let Some(behind) = behind.strip_prefix(&sent.bytes[doubt.clone()]) {
        ends.extend(follow(sent, doubt.end, behind));
    }
    ends
}

/// Where one may be who was at `at` and has lost so much.
fn skip(sent: &Sent, at: usize, lost: usize) -> Vec<usize> {
    let Some(doubt) = next_doubt(sent, at).filter(|doubt| doubt.start < at + lost) else {
        return if at + lost <= sent.bytes.len() { vec![at + lost] } else { Vec::new() };
    };
    let rest = lost - (doubt.start - at);
    let mut ends = skip(sent, doubt.end, rest);
    if rest <= doubt.len() {
        ends.push(doubt.start + rest);
    } else {
        ends.extend(skip(sent, doubt.end, rest - doubt.len()));
    }
    ends
}

/// The first doubtful write that begins at `at` or behind it.
fn next_doubt(sent: &Sent, at: usize) -> Option<Range<usize>> {
    sent.doubtful.iter().find(|doubt| doubt.start >= at).cloned()
}

/// Who is in front of a doubtful write may be behind it as well.
fn close(sent: &Sent, ends: impl IntoIterator<Item = usize>) -> Ends {
    let mut all = Ends::new();
    for end in ends {
        let mut at = end;
        all.insert(at);
        while let Some(doubt) = sent.doubtful.iter().find(|doubt| doubt.start == at) {
            at = doubt.end;
            all.insert(at);
        }
    }
    all
}

fn misfit(sent: &Sent, from: &Ends, bytes: &[u8]) -> String {
    let same = |at: usize| {
        let rest = sent.bytes.get(at..).unwrap_or_default();
        rest.iter().zip(bytes).take_while(|(one, other)| one == other).count()
    };
    let (at, same) = from.iter().map(|&at| (at, same(at))).max_by_key(|it| it.1).unwrap_or((0, 0));
    let shown = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).escape_debug().to_string()
    };
    let wanted = sent.bytes.get(at + same..).unwrap_or_default();
    format!(
        "at byte {} of {} sent the log goes on with '{}' ({} bytes), not with '{}'",
        at + same,
        sent.bytes.len(),
        shown(&bytes[same..]),
        bytes.len() - same,
        shown(wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(text: &str, doubtful: Option<Range<usize>>) -> Sent {
        Sent { bytes: text.into(), doubtful: doubtful.into_iter().collect() }
    }

    fn ends(found: &str, sent: &Sent) -> Vec<usize> {
        judge(found.as_bytes(), sent).unwrap().ends.into_iter().collect()
    }

    fn loss(bytes: usize) -> String {
        format!("{TIME}{WHO}{bytes}{LOST}a and b: c\n")
    }

    #[test]
    fn every_byte_once_and_in_order() {
        let sent = sent("one\ntwo\nthree\n", None);
        assert_eq!(ends("one\ntwo\nthree\n", &sent), [14]);
        assert_eq!(ends("one\ntw", &sent), [6]);
        for wrong in ["one\nthree\n", "two\n", "one\none\n", "one\ntwo\nthree\nfour"] {
            judge(wrong.as_bytes(), &sent).unwrap_err();
        }
    }

    #[test]
    fn what_is_told_as_lost_must_be_as_much() {
        let sent = sent("one\ntwo\nthree\n", None);
        assert_eq!(ends(&format!("one\n{}three\n", loss(4)), &sent), [14]);
        assert_eq!(ends(&format!("one\nt\n{}ree\n", loss(5)), &sent), [14]);
        judge(format!("one\n{}three\n", loss(3)).as_bytes(), &sent).unwrap_err();
        judge(format!("one\n{}", loss(12)).as_bytes(), &sent).unwrap_err();
        assert_eq!(judge(loss(14).as_bytes(), &sent).unwrap().lost, 14);
    }

    #[test]
    fn what_is_told_begins_a_line() {
        let sent = sent("one\ntwo\nthree\n", None);
        judge(format!("one\ntw{}", loss(8)).as_bytes(), &sent).unwrap_err();
        assert_eq!(ends(&format!("one\ntw\n{}", loss(8)), &sent), [14]);
    }

    #[test]
    fn a_write_may_or_may_not_have_come_about() {
        let sent = sent("one\ntwo\nthree\n", Some(4..8));
        assert_eq!(ends("one\nthree\n", &sent), [14]);
        assert_eq!(ends("one\ntwo\nthree\n", &sent), [14]);
        assert_eq!(ends("one\n", &sent), [4, 8]);
        // The newline may be the daemon's own.
        assert_eq!(ends(&format!("one\n{}", loss(6)), &sent), [9, 10, 13, 14]);
    }

    #[test]
    fn managers_lines_stand_between() {
        let sent = sent("one\ntwo\n", None);
        let verdict = judge(format!("one\n{}two\n", appended(7)).as_bytes(), &sent).unwrap();
        assert_eq!((verdict.appended, verdict.ends), (vec![7], Ends::from([8])));
    }
}
