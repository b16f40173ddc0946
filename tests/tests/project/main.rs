//! The project itself: its documents, and the structure of its code.

mod apparmor;
mod documents;
mod named_tests;
mod structure;
