//! A program's manual page.

use std::fmt::Write as _;
use std::io;

use clap::Command;
use clap_mangen::Man;

/// Lines that each section of `clap_mangen` begins with: how its text writes an apostrophe.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// What a page is made of.
pub(crate) struct Page {
    pub(crate) command: Command,
    pub(crate) section: u8,
    /// The rest of the description, and the sections that follow those of the definition.
    pub(crate) rest: String,
}

impl Page {
    /// Renders the page.
    pub(crate) fn render(mut self) -> io::Result<String> {
        self.command = self.command.subcommand_value_name("COMMAND");
        self.command.build();
        let name = self.command.get_name();
        let version = self.command.get_version().unwrap_or_default();
        let about = self.command.get_about().map(ToString::to_string).unwrap_or_default();
        let about = about.trim_end_matches('.');
        let (description, rest) = match self.rest.find(".SH ") {
            Some(start) => self.rest.split_at(start),
            None => (self.rest.as_str(), ""),
        };
        let after_help = self.command.get_after_help().map(ToString::to_string);
        let man = Man::new(self.command.clone());
        Ok([
            PREAMBLE,
            &format!(".TH {} {} \"\" \"{name} {version}\"\n", name.to_uppercase(), self.section),
            &format!(".SH NAME\n{name} \\- {}\n", escaped(about)),
            &section(|page| man.render_synopsis_section(page))?,
            &format!(".SH DESCRIPTION\n{}.\n{description}", escaped(about)),
            &section(|page| man.render_options_section(page))?,
            &subcommands(&self.command)?,
            &sections(&after_help.unwrap_or_default()),
            rest,
        ]
        .concat())
    }
}

/// Renders a section without its preamble.
fn section(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let mut page = Vec::new();
    render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).replace(PREAMBLE, ""))
}

/// Renders the section on subcommands, if there are any.
fn subcommands(command: &Command) -> io::Result<String> {
    let subcommands = command.get_subcommands();
    let shown = subcommands.filter(|it| it.get_name() != "help" && !it.is_hide_set());
    let text: String = shown.map(subcommand).collect::<io::Result<_>>()?;
    Ok(if text.is_empty() { text } else { format!(".SH COMMANDS\n{text}") })
}

/// Renders a subcommand: its usage as a heading, what it is for, and its own options.
fn subcommand(command: &Command) -> io::Result<String> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let own = command.clone().mut_args(|arg| {
        let is_everywhere = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(is_everywhere)
    });
    let options = section(|page| Man::new(own).render_options_section(page))?;
    let options = options.replace(".SH OPTIONS\n", "");
    Ok(format!(".SS \"{}\"\n{}.\n{options}", escaped(usage), escaped(&about)))
}

/// Converts the end of a help text: a line at the margin, with a colon at its end, is the heading
/// of a section, and what follows its first comma a sentence in it. Each line of two columns
/// is an item.
fn sections(after_help: &str) -> String {
    let mut text = String::new();
    for line in after_help.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("  ") {
            None => {
                let line = line.trim_end_matches(':');
                let (heading, where_) = line.split_once(", ").unwrap_or((line, ""));
                writeln!(text, ".SH \"{}\"", escaped(&heading.to_uppercase())).ok();
                if !where_.is_empty() {
                    writeln!(text, "{}:", escaped(&capitalised(where_))).ok();
                }
            }
            Some(item) => {
                let (name, what) = item.split_once("  ").unwrap_or((item, ""));
                let (name, what) = (escaped(name), escaped(what.trim_start()));
                writeln!(text, ".TP\n\\fB{name}\\fR\n{what}").ok();
            }
        }
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn the_end_of_a_help_text_becomes_sections() {
        let text = "Files, as root (others elsewhere):\n  /run/a-b   socket\n\nSignals:\n  HUP  \
                    ignored";
        let expected = ".SH \"FILES\"\nAs root (others elsewhere):\n.TP\n\\fB/run/a\\-b\\fR\nsocket\n\
                        .SH \"SIGNALS\"\n.TP\n\\fBHUP\\fR\nignored\n";
        assert_eq!(sections(text), expected);
    }
}
