//! Daemons whose fds are held by `virtfdhold`, as in a container: nothing is lost at a restart.

mod containers;
mod daemons;
mod guests;
mod kubevirt;
mod load;
mod lost;
mod outside;
mod parent;
mod protocol;
mod services;
mod user_namespaces;
