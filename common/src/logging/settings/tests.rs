use super::*;
use crate::config::Document;

fn config(text: &str) -> Common {
    Common::read(&Document::parse(Path::new("x"), text.as_bytes()).unwrap()).unwrap()
}

fn environment(debug: &str, filters: &str, outputs: &str) -> Environment {
    let variables = [
        ("LIBVIRT_DEBUG", debug),
        ("LIBVIRT_LOG_FILTERS", filters),
        ("LIBVIRT_LOG_OUTPUTS", outputs),
    ];
    Environment::read(|wanted| {
        variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into())
    })
}

fn surroundings() -> Surroundings {
    Surroundings {
        daemonized: false,
        stdin_is_terminal: true,
        journal_writable: true,
        log_file: "/var/log/libvirt/virtlogd.log".into(),
    }
}

fn settings(config_text: &str, debug: &str, verbose: bool) -> Result<Settings, Error> {
    let environment = environment(debug, "", "");
    Settings::new("9.0.0", &config(config_text), environment, verbose, &surroundings())
}

#[test]
fn the_environment_goes_before_the_configuration() {
    let config = config("log_level = 4; log_filters = '1:a'; log_outputs = '1:stderr'");
    let new =
        |environment| Settings::new("9.0.0", &config, environment, false, &surroundings()).unwrap();
    let settings = new(environment("", "", ""));
    assert_eq!(settings.level, Level::Error);
    assert_eq!((settings.filters.as_str(), settings.outputs.as_str()), ("1:a", "1:stderr"));
    let settings = new(environment("debug", "2:b", "2:stderr"));
    assert_eq!(settings.level, Level::Debug);
    assert_eq!((settings.filters.as_str(), settings.outputs.as_str()), ("2:b", "2:stderr"));
}

#[test]
fn verbose_lowers_the_level_to_info_and_never_raises_it() {
    let level = |text, debug, verbose| settings(text, debug, verbose).unwrap().level;
    assert_eq!(level("", "", false), Level::Warning);
    assert_eq!(level("log_level = 0", "", false), Level::Warning);
    assert_eq!(level("", "", true), Level::Info);
    assert_eq!(level("log_level = 4", "error", true), Level::Info);
    assert_eq!(level("log_level = 1", "", true), Level::Debug);
    assert_eq!(settings("", "", true).unwrap().default_output.to_string(), "2:stderr");
}

#[test]
fn levels_that_are_none_are_refused_in_libvirts_words() {
    let refused = |argument: &str| {
        format!(
            "invalid argument: Failed to set logging priority, argument '{argument}' is invalid"
        )
    };
    for number in ["5", "9", "4294967295"] {
        let error = settings(&format!("log_level = {number}"), "", false).unwrap_err();
        assert_eq!(error.to_string(), refused(number));
    }
    assert_eq!(settings("", "INFO", false).unwrap_err().to_string(), refused("INFO"));
}

#[test]
fn the_default_output_follows_libvirts_rules() {
    let output = |daemonized, stdin_is_terminal, journal_writable, level| {
        let surroundings =
            Surroundings { daemonized, stdin_is_terminal, journal_writable, ..surroundings() };
        surroundings.default_output(level).to_string()
    };
    assert_eq!(output(false, true, true, Level::Warning), "3:stderr");
    assert_eq!(output(false, true, false, Level::Debug), "1:stderr");
    assert_eq!(output(false, false, true, Level::Warning), "3:journald");
    assert_eq!(output(false, false, true, Level::Debug), "2:journald");
    assert_eq!(output(false, false, false, Level::Info), "2:stderr");
    assert_eq!(output(true, true, true, Level::Error), "4:journald");
    let file = "1:file:/var/log/libvirt/virtlogd.log";
    assert_eq!(output(true, true, false, Level::Debug), file);
    assert_eq!(output(true, false, false, Level::Debug), file);
}
