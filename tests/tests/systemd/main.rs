//! Units and socket activation, without and with a booted systemd.

mod files;
mod guests_in_journal;
mod holder;
mod life;
mod messages;
mod metrics;
mod pages;
mod podman;
mod reload;
mod sandbox;
mod units;
