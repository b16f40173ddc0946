//! Both daemons where the kernel refuses system calls that libvirt's do without: one after the other,
//! with `EPERM` as filters say it and with `ENOSYS` as older kernels do, and then all at once. Each
//! goes on as it is documented in `common/SYSTEM_CALLS.md`.

mod cases;
mod documented;
mod full_disk;
mod leases;
mod logs;

mod guests {
    #[test]
    #[ignore = "not a test: other tests run it as a process of its own"]
    fn stand_in() {
        tests::guest::stand_in();
    }
}
