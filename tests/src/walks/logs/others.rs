//! Somebody else who appends to logs, as hooks of libvirt's do (`>>`).
//!
//! A mark is written of letters that nobody else uses, so that it can be taken out of a log, and what is
//! left of it when it was overwritten as well: our look at a file's size and our write are two calls,
//! so the first marks that a process meets may be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Marks of one log that may be overwritten in the time of one process: those of two slow requests.
pub(super) const OVERWRITTEN_MAX: usize = 4;

/// How long they wait between two marks.
const PAUSE: Duration = Duration::from_millis(5);

const BEGIN: char = '{';
const END: char = '}';
const DIGITS: [char; 2] = ['|', '~'];

/// Digits of a mark's number.
const WIDTH: usize = 16;

/// The numbers of the marks that are in one log for certain.
#[derive(Debug, Default, Clone)]
pub(super) struct Written(Arc<Mutex<Vec<u32>>>);

impl Written {
    /// So many by now.
    pub(super) fn certain(&self) -> Vec<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, number: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

type Targets = Vec<(PathBuf, Written)>;

/// Those who append.
#[derive(Debug, Default)]
pub(super) struct Others {
    targets: Arc<Mutex<Targets>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Others {
    /// From now on they append to these.
    pub(super) fn append_to(&mut self, targets: Targets) {
        let has_work = !targets.is_empty();
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
        if has_work && self.thread.is_none() {
            let (targets, is_over) = (Arc::clone(&self.targets), Arc::clone(&self.is_over));
            self.thread = Some(thread::spawn(move || append(&targets, &is_over)));
        }
    }

    /// They have ended when this returns.
    pub(super) fn end(&mut self) {
        self.append_to(Vec::new());
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("others do not panic");
        }
        self.is_over.store(false, Ordering::Relaxed);
    }
}

fn append(targets: &Mutex<Targets>, is_over: &AtomicBool) {
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let target = {
            let targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.get(number as usize % targets.len().max(1)).cloned()
        };
        if let Some((path, written)) = target
            && let Ok(mut file) = File::options().append(true).open(path)
            && file.write(mark(number).as_bytes()).is_ok_and(|len| len == WIDTH + 2)
        {
            written.note(number);
        }
        thread::sleep(PAUSE);
    }
}

fn mark(number: u32) -> String {
    let digits = (0..WIDTH).map(|digit| DIGITS[(number >> digit & 1) as usize]);
    [BEGIN].into_iter().chain(digits).chain([END]).collect()
}

/// The marks that were found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    whole: Vec<u32>,
    /// How many pieces of marks.
    pieces: usize,
}

impl Marks {
    /// Each that is there for certain is there once, but for so many that may be overwritten.
    ///
    /// # Errors
    /// Says what is not as it has to be.
    pub(super) fn expect(&self, certain: &[u32], overwritten_max: usize) -> Result<(), String> {
        let there: BTreeSet<_> = self.whole.iter().collect();
        if there.len() < self.whole.len() {
            return Err(format!("what others have appended is there twice: {:?}", self.whole));
        }
        let missing: Vec<_> = certain.iter().filter(|number| !there.contains(number)).collect();
        if missing.len() > overwritten_max || self.pieces > overwritten_max + 1 {
            return Err(format!(
                "what others have appended as {missing:?} is missing, of {}; {} are cut",
                certain.len(),
                self.pieces
            ));
        }
        Ok(())
    }
}

/// What a log has without the marks of others, and these.
pub(super) fn split(found: &[u8]) -> (Vec<u8>, Marks) {
    let is_of_mark = |byte: &u8| b"{}|~".contains(byte);
    let mut marks = Marks::default();
    let runs = found.chunk_by(|one, other| is_of_mark(one) == is_of_mark(other));
    let (of_others, rest): (Vec<_>, Vec<_>) =
        runs.partition(|run| run.first().is_some_and(is_of_mark));
    for run in of_others {
        for piece in run.split_inclusive(|&byte| byte == END as u8) {
            match number(piece) {
                Some(number) => marks.whole.push(number),
                None => marks.pieces += 1,
            }
        }
    }
    (rest.concat(), marks)
}

fn number(mark: &[u8]) -> Option<u32> {
    let digits = mark.strip_prefix(b"{")?.strip_suffix(b"}")?;
    let is_whole = digits.len() == WIDTH && !digits.contains(&(BEGIN as u8));
    let digits = digits.iter().enumerate();
    is_whole.then(|| digits.map(|(at, &digit)| u32::from(digit == DIGITS[1] as u8) << at).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_out_whole_or_in_pieces() {
        let (one, two) = (mark(0x5a5a), mark(7));
        let text = format!("g1.1 0{one}12\n{two}{}g1.2\n{one}{}", &one[3..], &two[..5]);
        let (rest, marks) = split(text.as_bytes());
        assert_eq!(String::from_utf8(rest).unwrap(), "g1.1 012\ng1.2\n");
        assert_eq!(marks, Marks { whole: vec![0x5a5a, 7, 0x5a5a], pieces: 2 });
        assert!(marks.expect(&[], 9).unwrap_err().contains("twice"));
    }

    #[test]
    fn only_so_many_may_be_missing() {
        let marks = Marks { whole: vec![1, 2, 5], pieces: 0 };
        marks.expect(&[1, 2, 5], 0).unwrap();
        marks.expect(&[1, 2, 4], 1).unwrap();
        marks.expect(&[1, 2, 3, 4], 1).unwrap_err();
    }
}
