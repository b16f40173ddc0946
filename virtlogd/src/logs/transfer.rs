//! Transfer of bytes into a log's file, from its backlog and from the guest's pipe, for one turn.

use std::time::Instant;

use common::handover::document::Target;

use crate::guest::access::Guest;
use crate::guest::backlog::BacklogItem;
use crate::guest::pipe::InputState;
use crate::guest::staging::Workspace;
use crate::guest::tally::Tally;
use crate::logs::source::GuestBytes;
use crate::logs::turn_budget::TurnBudget;
use crate::logs::write_outcome::WriteOutcome;
use crate::rotating_file::{Bytes, Error, RotatingFile};

/// Bytes that a turn has written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// From the guest's pipe.
    pub(super) of_pipe: u64,
    /// Those, and the staged ones of the backlog.
    pub(super) total: u64,
}

/// Writes the backlog and what waits, as far as the budget goes. Without `flush` a partial line near the
/// end of a file may be held back.
///
/// # Errors
/// As the file or the guest's pipe reports. Bytes that were taken and not stored are staged.
pub(super) fn transfer(
    guest: &Guest,
    file: &mut RotatingFile,
    workspace: &mut Workspace,
    budget: TurnBudget,
    flush: bool,
) -> Result<(WriteOutcome, Written), Error> {
    let (mut left, taken_before) = (budget, workspace.tally.taken_bytes);
    let mut state = file.of_source(guest.state())?;
    refresh(file, state)?;
    guest.progress.note();
    let outcome = loop {
        let has_staged = workspace.staging.held() > 0;
        match outcome_before(state, &left).filter(|_| !has_staged) {
            Some(outcome) => break outcome,
            None if state == InputState::Backlog && !has_staged => {
                write_backlog(guest, file, workspace, &mut left)?;
            }
            None => {
                // Bytes that had to be staged to be looked at come first. What a short write left there
                // must not stay: the staging pipe is not this log's alone.
                let stored = write_output(guest, file, workspace, &mut left, flush || has_staged)?;
                let is_held = stored == 0 && workspace.staging.held() == 0;
                if is_held && state == InputState::Waiting && !left.is_over() {
                    break WriteOutcome::Held;
                }
            }
        }
        state = file.of_source(guest.state())?;
    };
    let Workspace { staging, scratch, tally } = workspace;
    GuestBytes::new(guest, staging, scratch, left).check_stored(file)?;
    left.time(Instant::now()).into_iter().for_each(|time| tally.turn(time));
    let of_pipe = tally.taken_bytes - taken_before;
    Ok((outcome, Written { of_pipe, total: left.spent(&budget) }))
}

/// Looks whether the path still leads to the file, where that matters.
fn refresh(file: &mut RotatingFile, state: InputState) -> Result<(), Error> {
    match state {
        InputState::Backlog | InputState::Waiting => file.refresh(),
        InputState::Empty if !file.is_in_place() => file.refresh(),
        InputState::AtEnd if !file.is_in_place() => {
            // It is made if that is possible; nothing will be written to it.
            file.refresh().ok();
            Ok(())
        }
        InputState::Empty | InputState::AtEnd => Ok(()),
    }
}

/// Returns how the turn ends, if it does while nothing is staged.
fn outcome_before(state: InputState, left: &TurnBudget) -> Option<WriteOutcome> {
    match state {
        InputState::Empty => Some(WriteOutcome::Quiet),
        InputState::AtEnd => Some(WriteOutcome::End),
        InputState::Waiting if left.is_in_pieces() => Some(WriteOutcome::Racing),
        InputState::Backlog | InputState::Waiting => left.is_over().then_some(WriteOutcome::Again),
    }
}

/// Writes what is staged and what waits in the guest's pipe. Returns how many bytes were stored.
fn write_output(
    guest: &Guest,
    file: &mut RotatingFile,
    Workspace { staging, scratch, tally }: &mut Workspace,
    left: &mut TurnBudget,
    flush: bool,
) -> Result<u64, Error> {
    let mut source = GuestBytes::new(guest, staging, scratch, *left);
    let stored = file.append(&mut source, flush);
    tally.taken_bytes += source.taken;
    let stored = stored?;
    if stored == 0 && flush {
        source.check_stored(file)?;
    }
    *left = source.budget;
    Ok(stored)
}

/// Writes the backlog, as far as the budget goes.
fn write_backlog(
    guest: &Guest,
    file: &mut RotatingFile,
    Workspace { scratch, tally, .. }: &mut Workspace,
    budget: &mut TurnBudget,
) -> Result<(), Error> {
    settle_doubts(guest, file);
    // A value of its own: the lock is not held while anything is written.
    let next = || guest.pipe().next_item();
    while !budget.is_over()
        && let Some(item) = next()
    {
        match item {
            BacklogItem::Line(line) => {
                guest.pipe().note_line(target_of(file));
                write_line(guest, file, &line, tally, budget)?;
            }
            BacklogItem::Staged(staging) => {
                let mut source = GuestBytes::of_backlog(guest, &staging, scratch, *budget);
                let written =
                    file.append(&mut source, true).and_then(|_| source.check_stored(file));
                *budget = source.budget;
                guest.pipe().first_is_back();
                written?;
            }
            BacklogItem::Loss => write_loss(guest, file, tally, budget)?,
        }
    }
    Ok(())
}

/// Sees in the file which bytes the process before this one had written when it ended.
fn settle_doubts(guest: &Guest, file: &RotatingFile) {
    let (inode, size_bytes) = file.position();
    guest.pipe().see_written(inode, size_bytes);
    let doubtful = guest.pipe().doubtful_line();
    if let Some((line, Target { inode, size_bytes })) = doubtful {
        let written = file.written_of(&line, inode, size_bytes);
        guest.pipe().line_is_written(line.get(written..).unwrap_or_default());
    }
}

fn write_loss(
    guest: &Guest,
    file: &mut RotatingFile,
    tally: &mut Tally,
    budget: &mut TurnBudget,
) -> Result<(), Error> {
    let at_line_start = file.is_at_line_start();
    let begun = guest.pipe().begin_line(at_line_start, target_of(file));
    let Some((loss, line)) = begun else { return Ok(()) };
    write_line(guest, file, &line, tally, budget)
        .inspect_err(|_| guest.pipe().line_has_failed(loss, &line))
}

fn write_line(
    guest: &Guest,
    file: &mut RotatingFile,
    line: &[u8],
    tally: &mut Tally,
    budget: &mut TurnBudget,
) -> Result<(), Error> {
    budget.begin();
    let mut rest = Bytes(line);
    let result = file.append(&mut rest, true);
    guest.pipe().line_is_written(rest.0);
    // Its bytes are the daemon's, not the guest's.
    budget.spend(0);
    guest.progress.note();
    result.map(|_| tally.loss_lines += 1)
}

fn target_of(file: &RotatingFile) -> Target {
    let (inode, size_bytes) = file.position();
    Target { inode, size_bytes }
}
