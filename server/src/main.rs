//! The program `ternd`.

use std::process::ExitCode;

use clap::Parser as _;
use tern_server::config::{Config, Flags};
use tern_server::{logging, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 after a drain, 1 when it could not run or its store failed, 2 for a wrong configuration.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what the program shows")]
fn main() -> ExitCode {
    let flags = Flags::parse();
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ternd: {error}");
            return ExitCode::from(2);
        }
    };
    if flags.print_config {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::start(&config.log) {
        eprintln!("ternd: {error}");
        return ExitCode::from(2);
    }
    match run::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ternd: {error}");
            ExitCode::FAILURE
        }
    }
}
