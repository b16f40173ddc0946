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
        {"pipefd": "3", "path": "/a"}, 5, null, "x", [], {"pipefd": 4, "path": ["/b"]}]}}"#;
    let document = read(text);
    assert!(document.magic.is_none() && document.daemon.is_none());
    let files = document.handler.unwrap().files.unwrap().into_vec();
    let seen: Vec<_> = files.iter().map(|log| (log.pipefd, log.path.as_deref())).collect();
    assert_eq!(seen, [(None, Some("/a")), (Some(4), None)]);
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
