//! The files under test, between stand-ins for their neighbours.

#[rustfmt::skip]
#[path = "../../../../common/src/jobs/job.rs"]
pub(crate) mod job;
pub(crate) mod progress {
    /// An account that nobody reads.
    #[derive(Debug)]
    pub(crate) struct Progress;

    impl Progress {
        pub(crate) fn note(&self) {}
        pub(crate) fn end(&self) {}
    }
}
pub(crate) mod storage {
    /// A place that nobody asks for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct StorageId;
}
#[rustfmt::skip]
#[path = "../../../../common/src/jobs/threads.rs"]
pub(crate) mod threads;
