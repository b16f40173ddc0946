//! Units and socket activation, without and with a booted systemd.

mod files;
mod holder;
mod life;
mod reload;
mod sandbox;
mod units;
