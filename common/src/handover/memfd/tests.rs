use super::*;

#[test]
fn nothing_is_written_that_nobody_would_read() {
    let mib = [0; 1 << 20];
    let write = |out: &mut BufWriter<Limited<'_>>, count: u64| {
        (0..count).try_for_each(|_| out.write_all(&mib))
    };
    let mib_max = BYTES_MAX >> 20;
    assert_eq!(Memfd::written(|out| write(out, mib_max)).unwrap().len, BYTES_MAX);
    let error = Memfd::written(|out| write(out, mib_max + 1)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EFBIG as i32));
}
