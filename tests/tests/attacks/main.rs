//! Attacks on a whole daemon, confined so that it can reach nothing but its scratch directory. Each
//! shows that others are served as ever meanwhile, and that memory and descriptors are afterwards
//! what they were.
//!
//! The classes are those of the CVEs of libvirt's family; `.github/SECURITY.md` names the test of each.

mod bystanders;
mod connections;
mod leases;
mod messages;
mod pipes;
mod traces;
mod upgrades;

mod guests {
    #[test]
    #[ignore = "not a test: other tests run it as a process of its own"]
    fn stand_in() {
        tests::guest::stand_in();
    }
}
