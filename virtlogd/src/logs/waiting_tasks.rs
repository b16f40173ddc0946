//! Tasks of a log that wait for the one under way.

use std::collections::VecDeque;

use crate::logs::task::Task;

/// Tasks that wait. Bounded by the clients, of whom each has one call in flight. Boxed, as most logs
/// have none most of the time.
#[derive(Debug, Default)]
pub(crate) struct WaitingTasks(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    /// Bytes that the first has left to store.
    left_bytes: Option<u64>,
}

impl WaitingTasks {
    /// Returns whether there is none.
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_none()
    }

    /// Adds one behind the others.
    pub(crate) fn push(&mut self, task: Task) {
        self.0.get_or_insert_default().tasks.push_back(task);
    }

    /// Puts one back before the others, with so many bytes left to store.
    pub(crate) fn put_back(&mut self, task: Task, left_bytes: u64) {
        let waiting = self.0.get_or_insert_default();
        waiting.tasks.push_front(task);
        waiting.left_bytes = Some(left_bytes);
    }

    /// Takes the first, and the bytes that it has left to store.
    pub(crate) fn pop(&mut self) -> Option<(Task, Option<u64>)> {
        let waiting = self.0.as_mut()?;
        let first = waiting.tasks.pop_front().map(|task| (task, waiting.left_bytes.take()));
        self.0.take_if(|waiting| waiting.tasks.is_empty());
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_put_back_is_the_first_again() {
        let mut waiting = WaitingTasks::default();
        waiting.push(Task::FlushForHandover);
        waiting.push(Task::Stop { goes_on: false });
        let Some((first @ Task::FlushForHandover, None)) = waiting.pop() else { panic!() };
        waiting.put_back(first, 7);
        assert!(matches!(waiting.pop(), Some((Task::FlushForHandover, Some(7)))));
        assert!(matches!(waiting.pop(), Some((Task::Stop { .. }, None))));
        assert!(waiting.are_none() && waiting.pop().is_none());
    }
}
