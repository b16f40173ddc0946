//! The admin server, by wire and by virt-admin.

mod clients;
mod settings;
mod virt_admin;
mod wire;
