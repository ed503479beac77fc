//! The program `ternd`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tern_server::config::{Command, Config, Flags};
use tern_server::{logging, restore, run, threads};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 after a drain, 1 when it could not run, or its store or one of its threads failed, 2 for a wrong
/// configuration.
fn main() -> ExitCode {
    threads::end_process_on_panic();
    let flags = Flags::parse();
    if let Some(shell) = flags.completions {
        tern_version::print_completions(Flags::command(), shell);
        return ExitCode::SUCCESS;
    }
    if let Some(folder) = &flags.man_pages {
        return match tern_version::write_man_pages(Flags::command(), folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&format_args!("{}: {error}", folder.display()), 1),
        };
    }
    if let Some(Command::Restore(asked)) = &flags.command {
        return match restore::run(asked) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error, 1),
        };
    }
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error, 2),
    };
    if flags.print_config {
        // Whoever has read enough of it may go.
        let _ = std::io::stdout().write_all(config.to_toml().as_bytes());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::start(&config.log) {
        return refuse(&error, 2);
    }
    match run::run(&config, &flags) {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error, 1),
    }
}

fn refuse(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    logging::say(format_args!("ternd: {error}"));
    logging::flush();
    ExitCode::from(code)
}
