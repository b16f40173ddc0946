//! What a service tells its supervisor: the lines of `sd_notify(3)`.

/// One message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Keep the fds that came along.
    pub(super) stores: bool,
    /// Keep those of this name no more.
    pub(super) removes: bool,
    /// The name of the fds.
    pub(super) name: Option<String>,
    /// An fd stays when its other end is closed.
    pub(super) is_left_unwatched: bool,
    /// Close the fd that came along, now that everything before has been seen to.
    pub(super) is_barrier: bool,
    pub(super) is_ready: bool,
    pub(super) is_stopping: bool,
    pub(super) status: Option<String>,
}

impl Message {
    /// What is not known is passed over.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("FDSTORE", "1")) => message.stores = true,
                Some(("FDSTOREREMOVE", "1")) => message.removes = true,
                Some(("FDNAME", name)) => message.name = Some(name.to_owned()),
                Some(("FDPOLL", "0")) => message.is_left_unwatched = true,
                Some(("BARRIER", "1")) => message.is_barrier = true,
                Some(("READY", "1")) => message.is_ready = true,
                Some(("STOPPING", "1")) => message.is_stopping = true,
                Some(("STATUS", text)) => message.status = Some(text.to_owned()),
                _ => {}
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_several_things() {
        let stored = Message::parse(b"FDSTORE=1\nFDPOLL=0\nFDNAME=l1");
        assert!(stored.stores && stored.is_left_unwatched && !stored.removes);
        assert_eq!(stored.name.as_deref(), Some("l1"));
        let other = Message::parse(b"READY=1\nSTATUS=a=b\nMAINPID=7");
        assert!(other.is_ready && !other.stores);
        assert_eq!(other.status.as_deref(), Some("a=b"));
    }
}
