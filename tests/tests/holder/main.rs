//! Daemons whose fds are held by `virtfdhold`, as in a container: nothing is lost at a restart.

mod daemons;
mod guests;
mod load;
mod protocol;
