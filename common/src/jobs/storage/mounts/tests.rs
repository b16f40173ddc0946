use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn table(root: &Path) -> Table {
    let line = |number: u32, point: PathBuf| {
        format!("36 35 0:{number} / {} rw shared:1 - ext4 /dev/x rw\n", point.display())
    };
    let lines = [(1, root.to_owned()), (2, root.join("nfs")), (3, root.join("nfs/in\\040side"))];
    Table::parse(lines.map(|(number, point)| line(number, point)).concat().as_bytes())
}

fn device(number: u64) -> StorageId {
    StorageId::device(makedev(0, number))
}

#[test]
fn the_innermost_mount_counts() {
    let table = table(Path::new("/r"));
    assert_eq!(table.start_of(Path::new("/r/nfs/a.log")).place, device(2));
    assert_eq!(table.start_of(Path::new("/r/nfsother/a.log")).place, device(1));
    assert_eq!(table.start_of(Path::new("/r/nfs/in side/a.log")).place, device(3));
    let (a, b) = (Path::new("/x/a"), Path::new("/x/b"));
    assert_eq!(table.start_of(a).place, table.start_of(b).place, "one directory");
}

#[test]
fn links_are_followed_to_where_they_leave_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let table = table(&root);
    fs::create_dir_all(root.join("lib/inner")).unwrap();
    symlink(root.join("nfs"), root.join("lib/absolute")).unwrap();
    symlink("../lib/absolute/deep", root.join("lib/relative")).unwrap();
    symlink("inner", root.join("lib/same")).unwrap();
    symlink("circle", root.join("lib/circle")).unwrap();
    let elsewhere = |path: &str| {
        let path = plain(&root.join(path));
        table.elsewhere(&path, table.start_of(&path))
    };
    assert_eq!(elsewhere("lib/absolute/x.log"), Some(root.join("nfs/x.log")));
    assert_eq!(elsewhere("lib/relative/x.log"), Some(root.join("nfs/deep/x.log")));
    assert_eq!(elsewhere("lib/same/../../lib/relative"), Some(root.join("nfs/deep")));
    for path in ["lib/same/x.log", "lib/inner/x.log", "lib/circle/x", "absent/x.log"] {
        assert_eq!(elsewhere(path), None, "{path}");
    }
    assert_eq!(elsewhere("nfs/../lib/same/x"), Some(root.join("lib/same/x")));
}

#[test]
fn the_real_table_knows_devices() {
    let table = Mounts::default().table();
    let proc = fs::metadata("/proc").unwrap().dev();
    assert_eq!(table.start_of(Path::new("/proc/self")).place, StorageId::device(proc));
}

#[test]
fn file_systems_of_several_hosts_are_told_by_their_device() {
    let text = b"36 35 0:1 / /r rw shared:1 - ext4 /dev/x rw\n\
        37 35 0:2 / /r/in\\040side rw,relatime - nfs4 server:/x rw,vers=4.2,local_lock=none\n\
        38 35 0:3 / /r/g rw - fuse.glusterfs server:/v rw,user_id=0\n";
    let mut mounts = Mounts { file: None, table: Arc::new(Table::parse(text)) };
    let nfs = mounts.remote(makedev(0, 2)).unwrap();
    assert_eq!((nfs.point.as_path(), &*nfs.kind), (Path::new("/r/in side"), "nfs4"));
    assert_eq!(nfs.option("vers"), Some("4.2"));
    assert_eq!(&*mounts.remote(makedev(0, 3)).unwrap().kind, "fuse.glusterfs");
    assert!(mounts.remote(makedev(0, 1)).is_none() && mounts.has_remote());
}
