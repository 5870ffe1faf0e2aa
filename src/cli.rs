//! The command line: flags, subcommands, and the commands that ask a running proxy.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong configuration. `serve` is not run here but by `main`.

mod client;
mod environment;
mod htdigest;
mod live;
mod man;
mod render;

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, ValueHint};
use serde_json::{Value, json};

use crate::access::Ports;
use crate::admin::Explain;
use crate::app;
use crate::config::{AdminListen, Errors, Overrides, Settings, units};
use crate::pages;

pub use environment::Shell;

// What stands at the end of each command's help.
const LARDER: &str = "\
Examples:
  larder                              serve on 127.0.0.1:3128
  larder run -- npm ci                run one command with a proxy of its own
  larder explain http://HOST/PATH     say why a response is cached or not";
const SERVE: &str = "\
Examples:
  larder --listen 127.0.0.1:8080 --memory 2GiB
  larder --config larder.toml
  larder --listen 127.0.0.1:3128 --listen 172.17.0.1:3128     for containers too";
const CHECK: &str = "\
Examples:
  larder check larder.toml
  larder check larder.toml && larder reload";
const EXPLAIN: &str = "\
Examples:
  larder explain http://HOST/PATH
  larder explain http://HOST/PATH -H 'Accept-Language: de' --json
  larder explain http://HOST/PATH --offline

Where nothing stored answers, the origin is asked as the proxy would; nothing is stored by that.";
const PURGE: &str = "\
Examples:
  larder purge http://HOST/PATH
  larder purge --glob 'http://*/*.js' --dry-run";
const LS: &str = "\
Examples:
  larder ls example.com --sort size
  larder ls --sites";
const TOP: &str = "\
Examples:
  larder top
  larder top --interval 5s --count 2        since the start, and of 5 seconds";
const HEALTHCHECK: &str = "\
Example:
  larder healthcheck --admin-listen 127.0.0.1:9128";
const STATS: &str = "\
Examples:
  larder stats
  larder stats --admin-listen 127.0.0.1:9129 --json";
const RELOAD: &str = "\
Example:
  larder reload";
const HTDIGEST: &str = "\
Examples:
  larder htdigest /etc/larder/users.htdigest alice
  larder htdigest --realm office users.htdigest alice

A user who is there already gets the new password. The file is for access.digest_file, the realm that of \
access.realm; larder reload reads both again.";
const ENV: &str = "\
Examples:
  eval \"$(larder env)\"
  larder env --shell fish | source
  larder env --shell pwsh | Out-String | Invoke-Expression";
const RUN: &str = "\
Examples:
  larder run -- curl -i http://HOST/PATH
  larder run --config ci.toml -- make test

The proxy takes a free port of this machine, has no admin listener and writes no access log. Where \
the environment names a proxy already, that one is asked by it; what NO_PROXY leaves out stays so.";
const COMPLETIONS: &str = "\
Examples:
  larder completions bash > ~/.local/share/bash-completion/completions/larder
  larder completions fish > ~/.config/fish/completions/larder.fish";
const MAN: &str = "\
Examples:
  larder man | man -l -
  larder man > /usr/local/share/man/man1/larder.1";

/// The exit code for wrong usage, as clap has it, and for a wrong configuration.
const CONFIGURATION: u8 = 2;

/// A caching forward proxy that says why. Without a command it serves.
#[derive(Clone, Debug, Parser)]
#[command(name = "larder", version, max_term_width = 100, disable_help_subcommand = true, after_help = LARDER)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub flags: Flags,
    /// What to do; nothing: [`Command::Serve`].
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The flags that settle what the file leaves open.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings (a flag wins over its variable, both over the file)")]
pub struct Flags {
    /// TOML file
    #[arg(long, global = true, env = "LARDER_CONFIG", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Proxy's address, repeatable [default: port 3128 on loopback]
    #[arg(long, global = true, env = "LARDER_LISTEN", hide_env_values = true, value_name = "ADDR", value_delimiter = ',', value_parser = |text: &str| expected(units::address(text)))]
    pub listen: Vec<SocketAddr>,
    /// Admin listener's address, or "off" [default: 127.0.0.1:9128]
    #[arg(long, global = true, env = "LARDER_ADMIN_LISTEN", hide_env_values = true, value_name = "ADDR", value_parser = admin_listen)]
    pub admin_listen: Option<AdminListen>,
    /// Cache size [default: 25%]
    #[arg(long, global = true, env = "LARDER_MEMORY", hide_env_values = true, value_name = "SIZE", value_parser = |text: &str| expected(units::memory(text)))]
    pub memory: Option<u64>,
    /// Ports for CONNECT: 443,8000-8999, or "any" [default: 443]
    #[arg(long, global = true, env = "LARDER_CONNECT_PORTS", hide_env_values = true, value_name = "LIST", value_parser = |text: &str| expected(units::ports(text)))]
    pub connect_ports: Option<Ports>,
    /// Allow loopback and private destinations
    #[arg(
        long, global = true, env = "LARDER_ALLOW_PRIVATE", hide_env_values = true, value_name = "BOOL", value_parser = BoolishValueParser::new(),
        hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "true"
    )]
    pub allow_private: Option<bool>,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve (what larder alone does)
    #[command(after_help = SERVE)]
    Serve,
    /// Check a configuration file; print every error in it
    #[command(after_help = CHECK)]
    Check {
        /// File to check instead of that of --config
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Say what the cache does with a request, and why
    #[command(after_help = EXPLAIN)]
    Explain {
        /// URL to explain
        #[arg(value_name = "URL")]
        url: String,
        /// Explain a HEAD instead of a GET
        #[arg(short = 'I', long)]
        head: bool,
        /// Field of the request, may be repeated
        #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'", value_parser = field)]
        fields: Vec<(String, String)>,
        /// Tell from what is stored alone; ask no origin
        #[arg(long)]
        offline: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove stored responses: by URL, host, pattern or tag
    #[command(
        after_help = PURGE,
        override_usage = "larder purge [OPTIONS] <URL|--path|--glob|--host|--tag|--all>"
    )]
    Purge {
        /// Which ones
        #[command(flatten)]
        what: What,
        /// Count only, remove nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what is stored
    #[command(after_help = LS)]
    Ls {
        /// Part of the URL; with --sites, of the host
        #[arg(value_name = "SEARCH")]
        search: Option<String>,
        /// Order: site, size (the largest first) or age (the newest first)
        #[arg(long, value_name = "ORDER", default_value = "age", hide_possible_values = true)]
        sort: Order,
        /// The other way round
        #[arg(long)]
        reverse: bool,
        /// Sites with their sums instead of responses
        #[arg(long, conflicts_with_all = ["sort", "reverse"])]
        sites: bool,
        /// Lines at most, up to 500
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show rates and the last exchanges, live, until Ctrl-C
    #[command(after_help = TOP)]
    Top {
        /// Time between two looks
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
        interval: Duration,
        /// End after so many looks
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Show what the running proxy counts
    #[command(after_help = STATS)]
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the running proxy read its configuration again
    #[command(after_help = RELOAD)]
    Reload {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Exit with 0 if the running proxy takes requests, else with 1
    #[command(after_help = HEALTHCHECK)]
    Healthcheck,
    /// Print the variables by which programs find the proxy
    #[command(after_help = ENV)]
    Env {
        /// Shell to print them for: bash (or any of POSIX), fish or pwsh
        #[arg(long, value_name = "SHELL", default_value = "bash", hide_possible_values = true)]
        shell: Shell,
    },
    /// Run a command with a proxy of its own, and tell what it saved
    #[command(after_help = RUN)]
    Run {
        /// Command to run, with its arguments; the exit code is its own
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
        command: Vec<OsString>,
    },
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Shell to complete for
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Set a user's password for Digest, which is asked for
    #[command(after_help = HTDIGEST)]
    Htdigest {
        /// File of users, made where there is none
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// User's name
        #[arg(value_name = "USER")]
        user: String,
        /// What the password is for, as access.realm says
        #[arg(long, value_name = "REALM", default_value = "larder", value_parser = |text: &str| expected(units::realm(text)))]
        realm: String,
    },
    /// Print the manual page
    #[command(after_help = MAN)]
    Man,
}

/// An order of stored responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By host, then URL
    Site,
    /// The largest first
    Size,
    /// The newest first
    Age,
}

impl Command {
    /// Whether its answer is to be JSON.
    fn in_json(&self) -> bool {
        match self {
            Self::Explain { json, .. }
            | Self::Purge { json, .. }
            | Self::Stats { json }
            | Self::Ls { json, .. }
            | Self::Reload { json } => *json,
            Self::Serve
            | Self::Check { .. }
            | Self::Healthcheck
            | Self::Env { .. }
            | Self::Run { .. }
            | Self::Completions { .. }
            | Self::Man
            | Self::Htdigest { .. }
            | Self::Top { .. } => false,
        }
    }
}

/// What to purge: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// Full URL, query included
    #[arg(value_name = "URL")]
    pub url: Option<String>,
    /// A URL with whatever query, and without one
    #[arg(long, value_name = "URL")]
    pub path: Option<String>,
    /// All URLs that match, * being any bytes and ? any one
    #[arg(long, value_name = "PATTERN")]
    pub glob: Option<String>,
    /// All URLs of a host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// All that their origins put under a tag (Surrogate-Key, Cache-Tag, Cache-Groups)
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
}

impl Flags {
    /// As the configuration takes them.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            listen: self.listen.clone(),
            admin_listen: self.admin_listen,
            memory: self.memory,
            connect_ports: self.connect_ports.clone(),
            allow_private: self.allow_private,
            without_users: false,
            parents_from_environment: false,
        }
    }
}

/// Reads the process's arguments; prints help, version or what is wrong and ends the process where that is all.
pub fn parse() -> Cli {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Reads other arguments, the program's name first.
pub fn parse_from<I, T>(arguments: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    Cli::try_parse_from(&arguments).map_err(|error| naming_the_variable(error, &arguments))
}

/// Lets an error about a value that a variable brought name that one, and not the flag alone, which may not have
/// been given, or be right.
fn naming_the_variable(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (Some(shown), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
        return error;
    };
    let flag = shown.split([' ', '[', '=']).next().unwrap_or_default();
    let cli = Cli::command();
    let known = cli.get_arguments().find(|known| known.get_long() == flag.strip_prefix("--"));
    let Some(variable) = known.and_then(clap::Arg::get_env) else { return error };
    let has = |given: &OsString| given.to_string_lossy().contains(&value);
    let given = !value.is_empty() && arguments.iter().any(has);
    if std::env::var_os(variable).as_ref().is_some_and(has) && !given {
        let named = format!("{} (for {shown})", variable.to_string_lossy());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// An error as clap tells it: behind the value and the flag.
fn expected<T>(read: Result<T, &'static str>) -> Result<T, String> {
    read.map_err(|expected| format!("expected {expected}"))
}

fn interval(text: &str) -> Result<Duration, String> {
    let read = units::duration(text).ok().filter(|interval| *interval >= Duration::from_millis(1));
    read.ok_or_else(|| "expected a duration such as \"1s\", at least \"1ms\"".to_owned())
}

fn admin_listen(text: &str) -> Result<AdminListen, String> {
    if text == "off" {
        return Ok(AdminListen::Off);
    }
    units::address(text).map(AdminListen::At).map_err(|address| format!("expected \"off\", or {address}"))
}

/// `Name: value`.
fn field(text: &str) -> Result<(String, String), &'static str> {
    const FIELD: &str = "expected a field such as 'Accept-Language: de'";
    let (name, value) = text.split_once(':').ok_or(FIELD)?;
    http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| FIELD)?;
    let value = value.trim();
    http::HeaderValue::from_str(value).map_err(|_| FIELD)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs any command but those that serve.
///
/// `alone` is how a request is explained when no proxy runs: it makes the request itself, by the settings.
pub async fn run_client<F>(command: &Command, overrides: &Overrides, alone: F) -> anyhow::Result<ExitCode>
where
    F: AsyncFnOnce(Settings, Explain) -> anyhow::Result<Value>,
{
    let asking = &Overrides { without_users: true, ..overrides.clone() };
    match command {
        Command::Serve | Command::Run { .. } => anyhow::bail!("this command serves, and asks nobody"),
        Command::Man => {
            print(&man::page()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Htdigest { file, user, realm } => {
            htdigest::run(file, user, realm)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { file } => Ok(check(overrides, file.as_ref())),
        Command::Healthcheck => client::healthcheck(listening(asking)?).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "larder", &mut text);
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Env { shell } => match Settings::load(asking) {
            Ok(settings) => env(*shell, &settings),
            Err(errors) => Ok(report(&errors)),
        },
        Command::Explain { .. }
        | Command::Purge { .. }
        | Command::Ls { .. }
        | Command::Top { .. }
        | Command::Stats { .. }
        | Command::Reload { .. } => match Settings::load(asking) {
            Ok(settings) => match command {
                Command::Top { interval, count } => live::top(&settings, *interval, *count).await,
                _ => client::ask(command, settings, alone).await,
            },
            Err(errors) => {
                if command.in_json() {
                    let errors: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
                    let told = json!({ "detail": "the configuration is refused", "errors": errors });
                    print(format!("{told:#}\n").as_bytes())?;
                }
                Ok(report(&errors))
            }
        },
    }
}

/// Where the admin listener is, for a health check. A file that does not matter is not read: one that became wrong
/// after the start does not make the running proxy unwell. Never exit code 2, which container engines reserve.
fn listening(overrides: &Overrides) -> anyhow::Result<Option<SocketAddr>> {
    match overrides.admin_listen {
        Some(AdminListen::At(address)) => Ok(Some(address)),
        Some(AdminListen::Off) => Ok(None),
        None => match Settings::load(overrides) {
            Ok(settings) => Ok(settings.admin.listen),
            Err(errors) => {
                let errors: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
                anyhow::bail!("the configuration is refused: {}", errors.join("; "));
            }
        },
    }
}

/// `larder env`.
fn env(shell: Shell, settings: &Settings) -> anyhow::Result<ExitCode> {
    let address = settings.server.listen.first().context("the proxy listens nowhere (server.listen)")?;
    anyhow::ensure!(
        address.port() != 0,
        "the proxy listens at a free port: give the address that it printed with --listen"
    );
    let direct = pages::left_out(|name| std::env::var(name).ok());
    print(environment::lines(shell, app::reachable(*address), &settings.pages, &direct).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `larder check`.
fn check(overrides: &Overrides, file: Option<&PathBuf>) -> ExitCode {
    let mut overrides = overrides.clone();
    overrides.config = file.cloned().or(overrides.config);
    match Settings::load(&overrides) {
        Ok(_) => {
            let what = overrides
                .config
                .map_or_else(|| "the built-in defaults".to_owned(), |file| file.display().to_string());
            print(format!("OK: {what}\n").as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(errors) => report(&errors),
    }
}

/// Prints what is wrong with the configuration. The exit code is 2.
pub fn report(errors: &Errors) -> ExitCode {
    let count = errors.0.len();
    let plural = if count == 1 { "" } else { "s" };
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{errors}\n{count} error{plural} in the configuration");
    ExitCode::from(CONFIGURATION)
}

/// Writes to standard output; a reader that has left is no failure.
fn print(text: &[u8]) -> std::io::Result<()> {
    shown(text).map(drop)
}

/// The same, and whether there is still a reader.
fn shown(text: &[u8]) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(arguments: &[&str]) -> Overrides {
        parse_from(std::iter::once("larder").chain(arguments.iter().copied())).unwrap().flags.overrides()
    }

    #[test]
    fn the_table_of_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides_before_or_behind_the_command() {
        let expected = Overrides {
            config: Some("l.toml".into()),
            listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:3128".parse().unwrap()],
            admin_listen: Some(AdminListen::Off),
            memory: Some(512 << 20),
            connect_ports: Some(Ports::List(vec![443..=443, 8000..=8999])),
            allow_private: Some(true),
            without_users: false,
            parents_from_environment: false,
        };
        let flags = [
            "--config",
            "l.toml",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:3128",
            "--admin-listen",
            "off",
            "--memory",
            "512MiB",
            "--connect-ports",
            "443,8000-8999",
            "--allow-private",
        ];
        assert_eq!(overrides(&flags), expected);
        assert_eq!(overrides(&[&["serve"], &flags[..]].concat()), expected);
        assert_eq!(overrides(&["--allow-private=false"]).allow_private, Some(false));
        assert_eq!(overrides(&["--connect-ports", "any"]).connect_ports, Some(Ports::Any));
    }

    /// The commands of an example, as a shell splits it: they end at what pipes, redirects or joins them, and at
    /// two spaces, behind which is what they do.
    fn commands(example: &str) -> Vec<Vec<String>> {
        let inner = |text: &str| Some(text.split_once("$(")?.1.split_once(')')?.0.to_owned());
        if let Some(inner) = inner(example) {
            return commands(&inner);
        }
        let (mut commands, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
        let mut characters = example.trim().chars().chain("\n".chars()).peekable();
        while let Some(character) = characters.next() {
            match character {
                _ if quote == Some(character) => quote = None,
                '\'' | '"' if quote.is_none() => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                ' ' | '\n' | '|' | '>' | '&' if quote.is_none() => {
                    words.extend(word.take());
                    if character != ' ' || characters.next_if_eq(&' ').is_some() {
                        commands.push(std::mem::take(&mut words));
                    }
                }
                _ => word.get_or_insert_default().push(character),
            }
        }
        assert!(quote.is_none(), "{example}");
        commands.retain(|words| words.first().is_some_and(|word| word == "larder"));
        commands
    }

    #[test]
    fn every_example_in_a_help_is_understood() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().chain([&cli]) {
            let help = command.get_after_help().unwrap().to_string();
            let examples = help.lines().skip(1).take_while(|line| line.starts_with("  "));
            let examples: Vec<_> = examples.map(commands).collect();
            assert!(!examples.is_empty(), "{}: {help}", command.get_name());
            for words in examples.iter().flatten() {
                assert!(parse_from(words).is_ok(), "{words:?} in {}: {help}", command.get_name());
            }
            assert!(examples.iter().all(|commands| !commands.is_empty()), "{help}");
        }
        let two = commands("larder check 'a b.toml' && larder reload >x");
        assert_eq!(two, [vec!["larder", "check", "a b.toml"], vec!["larder", "reload"]]);
        assert_eq!(commands("eval \"$(larder env)\""), [["larder", "env"]]);
        assert_eq!(commands("larder  serve on a port"), [["larder"]]);
    }

    #[test]
    fn wrong_usage_is_told_with_the_flag_and_exits_with_2() {
        for (arguments, told) in [
            (&["--listen", "localhost"][..], "--listen <ADDR>': expected an IP address and a port"),
            (&["--admin-listen", "on"], "--admin-listen <ADDR>': expected \"off\", or an IP address"),
            (&["--memory", "lots"], "--memory <SIZE>': expected a size"),
            (&["--connect-ports", "https"], "--connect-ports <LIST>': expected \"any\", or ports"),
            (&["explain", "http://h/", "-H", "no colon"], "expected a field such as"),
            (&["purge"], "required"),
            (&["purge", "http://h/", "--all"], "cannot be used with"),
            (&["frobnicate"], "unrecognized subcommand"),
        ] {
            let error = parse_from(std::iter::once("larder").chain(arguments.iter().copied())).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(CONFIGURATION), "{arguments:?}");
            assert!(error.to_string().contains(told), "{arguments:?}: {error}");
        }
    }
}
