//! Tables for people: they fit a terminal, and have everything in a pipe.

use std::borrow::Cow;
use std::io::{self, Write};
use std::iter;

/// Characters between two columns.
const GAP: usize = 2;

/// Characters that a long value keeps at least.
const LONG_MIN: usize = 16;

/// A column.
#[derive(Debug, Clone, Copy, Default)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// It is a number.
    pub is_number: bool,
    /// Its values may be cut to fit a terminal.
    pub is_long: bool,
    /// It is left out where a terminal has no room for it.
    pub is_optional: bool,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a value for each column.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Prints it, fit to a terminal of so many characters a line.
    ///
    /// # Errors
    /// As `write(2)`.
    pub fn print(&self, terminal: Option<usize>, out: &mut impl Write) -> io::Result<()> {
        let widths = self.widths(terminal);
        let titles = self.columns.iter().map(|column| column.title.to_owned()).collect();
        for row in iter::once(&titles).chain(&self.rows) {
            writeln!(out, "{}", self.line(row, &widths).trim_end())?;
        }
        Ok(())
    }

    /// Returns the width of each column; 0 for one that is left out.
    fn widths(&self, terminal: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<_> = (0..self.columns.len()).map(|place| self.natural(place)).collect();
        let Some(room) = terminal else { return widths };
        let total = |widths: &[usize]| -> usize {
            widths.iter().filter(|width| **width > 0).map(|width| width + GAP).sum::<usize>()
        };
        // The last column needs no gap behind it.
        let excess = |widths: &[usize]| total(widths).saturating_sub(room + GAP);
        for (place, column) in self.columns.iter().enumerate().rev() {
            if column.is_optional
                && excess(&widths) > 0
                && let Some(width) = widths.get_mut(place)
            {
                *width = 0;
            }
        }
        while excess(&widths) > 0 {
            let long = widths.iter_mut().zip(&self.columns).filter(|(_, column)| column.is_long);
            let widest = long.map(|(width, _)| width).filter(|width| **width > LONG_MIN).max();
            let Some(widest) = widest else { break };
            *widest -= 1;
        }
        widths
    }

    fn natural(&self, place: usize) -> usize {
        let title = self.columns.get(place).map_or(0, |column| column.title.len());
        let cells = self.rows.iter().filter_map(|row| row.get(place));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(title)
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), &width) in row.iter().zip(&self.columns).zip(widths) {
            if width == 0 {
                continue;
            }
            let cell = cut(cell, width);
            let filling = width.saturating_sub(cell.chars().count());
            let gap = if line.is_empty() { 0 } else { GAP };
            let (before, behind) = if column.is_number { (filling, 0) } else { (0, filling) };
            line.extend(iter::repeat_n(' ', gap + before));
            line.push_str(&cell);
            line.extend(iter::repeat_n(' ', behind));
        }
        line
    }
}

/// Returns a text that is cut in its middle, as the ends of paths tell most.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= width {
        return text.into();
    }
    let kept = width.saturating_sub(1);
    let head: String = text.chars().take(kept / 3).collect();
    let tail: String = text.chars().skip(count - (kept - kept / 3)).collect();
    (head + "…" + &tail).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Column =
        Column { title: "NAME", is_number: false, is_long: false, is_optional: false };
    const COLUMNS: [Column; 4] = [
        NAME,
        Column { title: "SIZE", is_number: true, ..NAME },
        Column { title: "UUID", is_optional: true, ..NAME },
        Column { title: "PATH", is_long: true, ..NAME },
    ];

    fn printed(terminal: Option<usize>) -> Vec<String> {
        let mut table = Table::new(&COLUMNS);
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        table.push(row(["web", "1.2K", "5a5a", "/var/log/libvirt/qemu/web.log"]));
        table.push(row(["database", "3", "5b5b", "/x"]));
        let mut out = Vec::new();
        table.print(terminal, &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_pipe_gets_everything() {
        assert_eq!(
            printed(None),
            [
                "NAME      SIZE  UUID  PATH",
                "web       1.2K  5a5a  /var/log/libvirt/qemu/web.log",
                "database     3  5b5b  /x",
            ]
        );
        assert_eq!(printed(Some(51)), printed(None));
    }

    #[test]
    fn a_terminal_gets_what_fits() {
        assert_eq!(
            printed(Some(45)),
            [
                "NAME      SIZE  PATH",
                "web       1.2K  /var/log/libvirt/qemu/web.log",
                "database     3  /x",
            ]
        );
        let narrow = printed(Some(40));
        assert_eq!(narrow[1], "web       1.2K  /var/lo…irt/qemu/web.log");
        assert!(narrow.iter().all(|line| line.chars().count() <= 40));
        assert_eq!(printed(Some(1))[1], "web       1.2K  /var/…mu/web.log");
    }
}
