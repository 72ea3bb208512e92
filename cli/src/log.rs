//! Logs, on standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::args::LogFormat;
use crate::{Exit, Failed};

pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Failed> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failed::new(Exit::Usage, format!("--log: {error}")))?;
    // Whoever reads the log may go away; that is no reason to end.
    let logs = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}
