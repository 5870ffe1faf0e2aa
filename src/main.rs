//! Arguments, tracing, runtime, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use larder::app;
use larder::cli::{self, Command};
use larder::config::{self, Overrides};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::parse();
    let set = EnvFilter::try_from_default_env();
    let wrong = std::env::var_os("RUST_LOG").filter(|_| set.is_err());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // It would tell of a failed write by `eprintln`, which panics where standard error has no reader.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // Not set, or not readable.
        .with_env_filter(set.unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
    if let Some(wrong) = wrong.as_ref().map(|wrong| wrong.to_string_lossy()) {
        // Standard error may be closed: then there is nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "larder: RUST_LOG: found {wrong:?}, expected levels such as \"warn,larder=debug\"; it is ignored"
        );
    }
    let overrides = Overrides {
        parents_from_environment: matches!(cli.command, Some(Command::Run { .. })),
        ..cli.flags.overrides()
    };
    let result = match &cli.command {
        None | Some(Command::Serve) => match config::Settings::load(&overrides) {
            Ok(settings) => app::serve(settings, overrides),
            Err(errors) => return cli::report(&errors),
        },
        Some(Command::Run { command }) => match config::Settings::load(&overrides) {
            Ok(settings) => app::run_command(settings, command),
            Err(errors) => return cli::report(&errors),
        },
        Some(command) => client(command, &overrides),
    };
    result.unwrap_or_else(|error| {
        // Standard error may be closed: then there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "larder: {error:#}");
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
