//! Manual pages and completions, as the packages have them: nothing that a program knows is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::config::{Common, Error, Toml};
use common::startup::Service;
use tempfile::TempDir;
use tests::harness::{Program, left_out};
use virtlogd::rotating_file::Limits;
use virtlogd::rules::Rules;

/// Pages of both packages.
const PAGES: [&str; 8] = [
    "virtlogd/virtlogd.8",
    "virtlogd/virtlogctl.1",
    "virtlogd/virtlogd.conf.5",
    "virtlogd/virtlogd.toml.5",
    "virtlockd/virtlockd.8",
    "virtlockd/virtlockctl.1",
    "virtlockd/virtlockd.conf.5",
    "virtlockd/virtlockd.toml.5",
];

#[test]
fn each_option_and_command_is_on_its_page_and_completed() {
    let manual = manual();
    for program in [Program::Virtlogd, Program::Virtlockd] {
        let name = program.name();
        let tool = program.tool();
        let tool_name = tool.file_name().unwrap().to_str().unwrap();
        let daemon = tool.with_file_name(name);
        for (path, name, section) in [(&daemon, name, 8), (&tool, tool_name, 1)] {
            let directory = manual.path().join(program.name());
            let page = text(&directory.join(format!("{name}.{section}")));
            let completed = fs::read_to_string(directory.join(format!("{name}.bash"))).unwrap();
            let words = words_of(path);
            assert!(words.len() > 3, "{name}: {words:?}");
            for word in words {
                assert!(page.contains(&word), "{name}: {word} is not on the page:\n{page}");
                assert!(completed.contains(&word), "{name}: {word} is not completed");
            }
        }
    }
}

#[test]
fn each_configuration_key_is_on_its_page() {
    let manual = manual();
    for (name, own) in [
        (virtlogd::Handler::NAME, virtlogd::Handler::CONFIG_KEYS),
        (virtlockd::Handler::NAME, virtlockd::Handler::CONFIG_KEYS),
    ] {
        let page = fs::read_to_string(manual.path().join(format!("{name}/{name}.conf.5"))).unwrap();
        let missing: Vec<_> =
            Common::KEYS.iter().chain(own).filter(|&&key| !names(&page, key)).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn each_key_of_a_rule_is_on_its_page() {
    let manual = manual();
    let expect = |daemon: &str, table: &str, count: usize, keys: Vec<String>| {
        let page = manual.path().join(format!("{daemon}/{daemon}.toml.5"));
        let page = fs::read_to_string(page).unwrap();
        assert_eq!(keys.len(), count, "{keys:?}");
        let missing: Vec<_> = keys.iter().filter(|key| !names(&page, key)).collect();
        assert!(missing.is_empty(), "{daemon} [[{table}]]: {missing:?}");
    };
    for (table, count) in [("rule", 6), ("directory", 3)] {
        let defaults = Limits { size_bytes_max: 0, backups_max: 0 };
        let keys = known_keys(table, |toml| Rules::read(toml, defaults).map(drop));
        expect("virtlogd", table, count, keys);
    }
    for (table, count) in [("rule", 3), ("mount", 2)] {
        let keys = known_keys(table, |toml| {
            virtlockd::Handler::configure_toml(&mut virtlockd::Settings::default(), toml)
        });
        expect("virtlockd", table, count, keys);
    }
}

#[test]
fn pages_are_sound() {
    let manual = manual();
    for page in PAGES {
        let warnings = Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(manual.path().join(page))
            .envs([("LC_ALL", "C.UTF-8"), ("MANROFFSEQ", "")])
            .stdout(Stdio::null())
            .output();
        let Ok(warnings) = warnings else {
            return left_out("a check of the manual pages", "man is not installed");
        };
        let warnings = String::from_utf8_lossy(&warnings.stderr).into_owned();
        assert!(warnings.is_empty(), "{page}: {warnings}");
    }
}

/// Runs the generator.
fn manual() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_manual")).arg(directory.path()).status();
    assert!(status.unwrap().success());
    directory
}

/// Returns whether a page describes this key.
fn names(page: &str, key: &str) -> bool {
    page.lines().any(|line| line == format!(".B {key}"))
}

/// Returns a page's text, with plain hyphens.
fn text(page: &Path) -> String {
    fs::read_to_string(page).unwrap().replace("\\-", "-")
}

/// Returns long options and commands of a program, from its help.
fn words_of(program: &Path) -> Vec<String> {
    let help = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8([help.stdout, help.stderr].concat()).unwrap();
    let options = help.split([' ', ',', '\n']).filter(|word| word.starts_with("--"));
    let options = options.map(|word| word.trim_end_matches(':').to_owned());
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    options.chain(commands.filter(|command| command != "help")).collect()
}

/// Returns the keys of a table of our own settings, from the refusal of another one.
fn known_keys(table: &str, read: impl Fn(&Toml<'_>) -> Result<(), Error>) -> Vec<String> {
    let file = format!("[[{table}]]\nno_such_key = 1\n");
    let toml = Toml::new(Path::new("x.toml"), file.as_bytes()).unwrap();
    let refusal = read(&toml).unwrap_err().to_string();
    let expected = refusal.split("expected ").nth(1).unwrap_or(&refusal);
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
