//! The files under test that write a log.

#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/restored_file.rs"]
pub(crate) mod restored_file;
#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/source.rs"]
pub(crate) mod source;
#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/transfer.rs"]
pub(crate) mod transfer;
#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/turn_budget.rs"]
pub(crate) mod turn_budget;
#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/write_outcome.rs"]
pub(crate) mod write_outcome;
#[rustfmt::skip]
#[path = "../../../../virtlogd/src/logs/writer.rs"]
pub(crate) mod writer;
