//! The project itself: its documents, and the structure of its code.

mod apparmor;
mod documents;
mod manual;
mod named_tests;
mod structure;
