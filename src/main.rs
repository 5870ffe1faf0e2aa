//! Arguments, tracing, runtime, run, exit code.

use std::process::ExitCode;

use larder::cli::{self, Command};
use larder::{app, config};

fn main() -> ExitCode {
    let cli = cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    let overrides = cli.flags.overrides();
    let result = match &cli.command {
        None | Some(Command::Serve) => match config::Settings::load(&overrides) {
            Ok(settings) => app::serve(settings, overrides),
            Err(errors) => return cli::report(&errors),
        },
        Some(command) => app::client(command, &overrides),
    };
    result.unwrap_or_else(|error| {
        eprintln!("larder: {error:#}");
        ExitCode::FAILURE
    })
}
