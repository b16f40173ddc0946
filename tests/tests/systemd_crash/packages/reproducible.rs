//! Two builds of the same source make the same packages, wherever they are made.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::harness::left_out;

use super::{BUILT, packages_in, scratch_directory, target_directory};

/// As deep as nobody has it.
const ELSEWHERE: &str = "another/place/with a space";

#[test]
#[ignore = "builds the packages a second time, from the beginning"]
fn from_another_place() {
    let first = match BUILT.clone() {
        Ok(first) => first,
        Err(reason) => return left_out("packages from another place", &reason),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tools = target_directory().unwrap().join("tools/bin");
    let place = scratch_directory("again").unwrap().join(ELSEWHERE);
    fs::remove_dir_all(&place).ok();
    fs::create_dir_all(&place).unwrap();
    // The source without what was built, another name of cargo's directory, and the time of the first build.
    let script = r#"
        mkdir source; tar --create --directory="$WORKSPACE" --exclude=./.git --exclude=target . | tar --extract --directory=source
        ln -s "${CARGO_HOME:-$HOME/.cargo}" cargo
        export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$WORKSPACE" log -1 --format=%ct)}
        export PATH=$TOOLS:$PATH CARGO_HOME=$PWD/cargo CARGO_TARGET_DIR=$PWD/target
        source/systemd/build-deb.sh "$PWD/packages"
    "#;
    let status = Command::new("bash")
        .args(["-euc", script])
        .current_dir(&place)
        .env("WORKSPACE", workspace)
        .env("TOOLS", tools)
        .status();
    assert!(status.expect("starting a shell").success());
    let second = packages_in(&place.join("packages")).unwrap();
    assert_eq!(second.len(), first.len());
    for package in first {
        let again = place.join("packages").join(package.file_name().unwrap());
        assert!(fs::read(&package).unwrap() == fs::read(&again).unwrap(), "{again:?} differs");
    }
    fs::remove_dir_all(place).unwrap();
}
