//! The manual page: one, with all commands, since there is one program.

use std::fmt::Write as _;
use std::io;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

/// The page, as roff(7).
pub(super) fn page() -> io::Result<Vec<u8>> {
    let program = super::Cli::command();
    let man = Man::new(program.clone().after_help(""));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut text = String::from_utf8_lossy(&page).into_owned();
    text.push_str(".SH COMMANDS\n");
    for command in program.get_subcommands() {
        put(&mut text, command)?;
    }
    text.push_str(".SH EXAMPLES\n");
    put_help(&mut text, &program);
    Ok(text.into_bytes())
}

/// A command: how it is called, what it does, what it takes, examples.
fn put(text: &mut String, command: &Command) -> io::Result<()> {
    let called = format!("larder {}", command.get_name());
    let mut command = command.clone().bin_name(&called).disable_help_flag(true);
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    // Writing to a String does not fail; here and below.
    let _ = writeln!(text, ".SS {}\n{}\n.PP", escaped(usage), escaped(&about));
    let mut options = Vec::new();
    Man::new(command.clone().after_help("")).render_options_section(&mut options)?;
    for line in String::from_utf8_lossy(&options).lines().filter(|line| !line.starts_with(".SH")) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(".PP\n");
    put_help(text, &command);
    Ok(())
}

/// What stands below a help text: examples, which stay as they are, and prose, which is filled.
fn put_help(text: &mut String, command: &Command) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for line in help.lines() {
        let _ = match line.strip_prefix("  ") {
            Some(_) => writeln!(text, ".nf\n{}\n.fi", escaped(line)),
            None if line.is_empty() => writeln!(text, ".PP"),
            None => writeln!(text, "{}", escaped(line)),
        };
    }
}

/// Text of which nothing is taken for a request of roff's.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
