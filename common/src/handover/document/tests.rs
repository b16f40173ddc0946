use super::*;

fn read(text: &str) -> Document<'static> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let log = Log { pipefd: Some(7), path: Some("/log".into()), ..Log::default() };
    let document = Document {
        handler: Some(LogHandler { files: Some(Items::Read(vec![log])) }),
        magic: Some("12".into()),
        private: Some(PrivateDaemon { generation: Some(3), ..PrivateDaemon::default() }),
        ..Document::default()
    };
    let text = serde_json::to_string(&document).unwrap();
    assert!(text.contains(PRIVATE));
    let again = serde_json::to_string(&read(&text)).unwrap();
    assert_eq!(text, again);
}

#[test]
fn one_bad_field_costs_itself() {
    let text = r#"{"magic": 7, "daemon": null, "more": [{}], "handler": {"files": [
        {"pipefd": "3", "path": "/a"}, 5, null, "x", [], {"pipefd": 4, "path": ["/b"]},
        {"pipefd": {"fd": 5}, "path": "/c"}]}}"#;
    let document = read(text);
    assert!(document.magic.is_none() && document.daemon.is_none());
    let files = document.handler.unwrap().files.unwrap().into_vec();
    let seen: Vec<_> = files.iter().map(|log| (log.pipefd, log.path.as_deref())).collect();
    assert_eq!(seen, [(None, Some("/a")), (Some(4), None), (None, Some("/c"))]);
}

#[test]
fn values_of_all_kinds_are_read() {
    let client: Client =
        serde_json::from_str(r#"{"readonly": true, "sock": {"errfd": -1, "isClient": true}}"#)
            .unwrap();
    assert_eq!(client.readonly, Some(true));
    let socket = client.sock.unwrap();
    assert_eq!((socket.errfd, socket.is_client), (Some(-1), Some(true)));
    let resource: Resource =
        serde_json::from_str(r#"{"lockHeld": true, "owners": [12, "x", -1]}"#).unwrap();
    assert_eq!(resource.lock_held, Some(true));
    let owners: Vec<_> = resource.owners.unwrap().into_iter().map(|Pid(pid)| pid).collect();
    assert_eq!(owners, [Some(12), None, None]);
}

#[test]
fn guests_that_are_being_ended_are_something() {
    let document = |private| Document {
        default_lockspace: Some(Lockspace { private, ..Lockspace::default() }),
        ..Document::default()
    };
    let endings = PrivateLockspace { endings: Some(Vec::new()), ..PrivateLockspace::default() };
    assert!(document(Some(endings)).has_endings());
    assert!(!document(Some(PrivateLockspace::default())).has_endings());
    assert!(!document(None).has_endings());
}

#[test]
fn each_setting_is_one() {
    assert!(!Document::default().has_settings());
    let at = |directory: Option<String>| Lockspace { directory, ..Lockspace::default() };
    let spaces = |space| Document { lockspaces: Some(vec![space]), ..Document::default() };
    assert!(spaces(at(Some("/leases".into()))).has_settings() && !spaces(at(None)).has_settings());
    let none = PrivateDaemon { store_max: Some(1), ..PrivateDaemon::default() };
    let set = [
        PrivateDaemon { timeout_s: Some(0), ..none.clone() },
        PrivateDaemon { log_filters: Some(String::new()), ..none.clone() },
        PrivateDaemon { log_outputs: Some(String::new()), ..none.clone() },
        PrivateDaemon { main_limits: Some((1, 1)), ..none.clone() },
        PrivateDaemon { admin_limits: Some((1, 1)), ..none.clone() },
    ];
    for (private, expected) in set.map(|set| (set, true)).into_iter().chain([(none, false)]) {
        assert_eq!(private.settings().has_settings(), expected, "{private:?}");
        assert_eq!(private.settings().store_max, Some(1));
        let document = Document { private: Some(private), ..Document::default() };
        assert_eq!(document.has_settings(), expected);
    }
}

#[test]
fn lists_that_are_none_are_missing() {
    let document = read(r#"{"handler": {"files": {}}, "lockspaces": 7}"#);
    assert!(document.handler.unwrap().files.is_none() && document.lockspaces.is_none());
}

#[test]
fn all_layouts_of_servers_are_known() {
    let server = r#"{"max_clients": 5, "clients": [{"id": 1, "privateData": 1729}]}"#;
    for (text, admin) in [
        (format!(r#"{{"servers": {{"virtlogd": {server}, "admin": {{}}}}}}"#), true),
        (format!(r#"{{"servers": [{server}]}}"#), false),
        (server.to_owned(), false),
    ] {
        let daemon: Daemon = serde_json::from_str(&text).unwrap();
        let (main, admin_server) = daemon.into_servers("virtlogd");
        let main = main.unwrap();
        assert_eq!((main.max_clients, admin_server.is_some()), (Some(5), admin), "{text}");
        assert_eq!(main.clients.unwrap().len(), 1);
    }
}
