//! virtlogd, each test on our daemon and, where the behaviour is owed to libvirt's, on that.

mod activation;
mod append;
mod append_only;
mod budget;
mod capped;
mod cleaner;
mod clients;
mod end;
mod faults;
mod floods;
mod hang;
mod hostile;
mod links;
mod open;
mod others;
mod read;
mod rotation;
mod rules;
mod slow;
mod start;
mod tricks;
