//! The log: on stderr, for people or as JSON. It never holds content, phone numbers or tokens: their types don't show
//! them.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging.
pub fn start(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| {
        ConfigError::Contradiction(format!("the log filter {:?} is wrong: {error}", config.filter))
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Auto | LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}
