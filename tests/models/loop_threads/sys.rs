//! System calls that a model does without.

pub(crate) mod process {
    use models::{chance, thread};

    pub(crate) fn thread_id_cached() -> i32 {
        i32::try_from(usize::from(thread::current().id())).expect("there are few")
    }

    /// As far as the watcher can see.
    pub(crate) fn is_thread_running(_: i32) -> bool {
        chance(2)
    }
}

pub(crate) mod signal {
    use std::io;

    pub(crate) fn listen() -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn block() -> io::Result<()> {
        Ok(())
    }
}

pub(crate) mod shortage {
    use std::io;

    pub(crate) fn wait_out<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match call() {
                Err(_) => models::thread::yield_now(),
                result => return result,
            }
        }
    }
}
