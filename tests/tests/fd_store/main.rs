//! What outlives a daemon in an fd store, whatever else goes wrong: what is in there goes on, and
//! what is not counts as if there were no store. The supervisor is a [stand-in](tests::supervisor).

mod back;
mod guests;
mod in_hand;
mod items;
mod journal;
mod keys;
mod links;
mod locked;
mod lost;
mod marks;
mod names;
mod own_log;
mod places;
mod rules;
mod settings;
mod silent;
mod slow;
mod small;
mod stop;
mod told;
