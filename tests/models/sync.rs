//! `std::sync`, with time that passes at any moment.

use std::sync::LockResult;
use std::time::Duration;

use shuttle::sync as model;
use shuttle::thread;

pub use std::sync::{Arc, Once, PoisonError, Weak};

pub use shuttle::sync::atomic;

/// A mutex whose guard knows it.
#[derive(Debug, Default)]
pub struct Mutex<T>(model::Mutex<T>);

/// A guard of it; the inner one is there but for the moment of a wait.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: Option<model::MutexGuard<'a, T>>,
}

/// A condition whose timed waits may end at once.
#[derive(Debug, Default)]
pub struct Condvar(model::Condvar);

/// The result of a timed wait.
#[derive(Debug, Clone, Copy)]
pub struct WaitTimeoutResult(bool);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(model::Mutex::new(value))
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // A model whose thread panics has failed.
        let guard = self.0.lock().expect("no thread has panicked");
        Ok(MutexGuard { mutex: self, guard: Some(guard) })
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self(model::Condvar::new())
    }

    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let inner = guard.guard.take().expect("it is there between two calls");
        let inner = self.0.wait(inner).expect("no thread has panicked");
        Ok(MutexGuard { mutex: guard.mutex, guard: Some(inner) })
    }

    /// Ends when the time is over: whenever other threads have had a turn, or none.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex;
        drop(guard);
        thread::yield_now();
        mutex.lock().map(|guard| (guard, WaitTimeoutResult(true))).map_err(|_| unreachable!())
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("it is there between two calls")
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("it is there between two calls")
    }
}
