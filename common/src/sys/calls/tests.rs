use super::*;

#[test]
fn nothing_is_refused_here() {
    use Call::*;
    let all = [
        Clone3,
        DuplicateCloexec,
        EpollCreate,
        EpollCtl,
        EpollWait,
        MemfdCreate,
        OfdLock,
        PidfdOpen,
        PidfdSendSignal,
        Splice,
        Tee,
    ];
    for call in all {
        assert!(call.refusal().is_none(), "{call:?}");
        assert!(call.try_with_nonsense().is_err(), "{call:?} has done something");
    }
}

#[test]
fn another_way_is_gone_only_where_a_call_cannot_be_made() {
    let go = |errno: Errno| or_else(Err(errno.into()), || Ok(()));
    assert!(go(Errno::EPERM).is_ok() && go(Errno::ENOSYS).is_ok());
    assert_eq!(go(Errno::EINVAL).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    or_else(Ok(()), || panic!("it was made")).unwrap();
}
