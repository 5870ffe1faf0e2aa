//! Arguments, tracing, runtime, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use larder::app::{self, Diagnostics};
use larder::cli::{self, Command};
use larder::config::{self, Overrides};
use tracing_subscriber::EnvFilter;

/// How long the end of the process waits for whoever reads standard error.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = cli::parse();
    let diagnostics = match Diagnostics::stderr() {
        Ok(diagnostics) => diagnostics,
        Err(error) => {
            // Standard error may be closed: then there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "larder: the thread for diagnostics can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    trace(&diagnostics);
    let code = run(&cli, &diagnostics);
    diagnostics.flush(LAST_WORDS);
    code
}

/// What libraries and this one tell by the way.
fn trace(diagnostics: &Diagnostics) {
    let set = EnvFilter::try_from_default_env();
    let wrong = std::env::var_os("RUST_LOG").filter(|_| set.is_err());
    let writer = diagnostics.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // Not set, or not readable.
        .with_env_filter(set.unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
    if let Some(wrong) = wrong.as_ref().map(|wrong| wrong.to_string_lossy()) {
        diagnostics.say(&format!(
            "RUST_LOG: found {wrong:?}, expected levels such as \"warn,larder=debug\"; it is ignored"
        ));
    }
}

fn run(cli: &cli::Cli, diagnostics: &Diagnostics) -> ExitCode {
    let overrides = Overrides {
        parents_from_environment: matches!(cli.command, Some(Command::Run { .. })),
        ..cli.flags.overrides()
    };
    let refused = |errors: &config::Errors| {
        // In this order.
        diagnostics.flush(LAST_WORDS);
        cli::report(errors)
    };
    let result = match &cli.command {
        None | Some(Command::Serve) => match config::Settings::load(&overrides) {
            Ok(settings) => app::serve(settings, overrides, diagnostics),
            Err(errors) => return refused(&errors),
        },
        Some(Command::Run { command }) => match config::Settings::load(&overrides) {
            Ok(settings) => app::run_command(settings, command, diagnostics),
            Err(errors) => return refused(&errors),
        },
        Some(command) => client(command, &overrides),
    };
    result.unwrap_or_else(|error| {
        diagnostics.say(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Runs a command that is not `serve`.
fn client(command: &Command, overrides: &Overrides) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't start")?;
    runtime.block_on(cli::run_client(command, overrides, app::explain_alone))
}
