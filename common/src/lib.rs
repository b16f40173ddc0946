//! Shared code of virtlogd and virtlockd.
//!
#![doc = include_str!("../ARCHITECTURE.md")]

pub mod admin;
pub mod cli;
pub mod client;
pub mod config;
pub mod event;
pub mod fd_store;
pub mod handover;
pub mod jobs;
pub mod logging;
pub mod query;
pub mod rpc;
pub mod server;
pub mod startup;
pub mod sys;
pub mod systemd;
pub mod tool;
pub mod xdr;

// Named through the crate where the models in `tests/models` put others in their place.
use std::{sync, thread};
