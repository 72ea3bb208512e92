//! Logs, on standard error.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::args::LogFormat;
use crate::{Exit, Failed};

/// Writes what is left of the log when it is dropped.
pub(crate) type Log = WorkerGuard;

/// Starts to log. Lines are written by a thread of their own, and dropped if many wait: whoever does
/// not read the log must not hold up the server, nor may a stranger who causes lines.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Log, Failed> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failed::new(Exit::Usage, format!("--log: {error}")))?;
    let (writer, log) = NonBlockingBuilder::default().lossy(true).finish(io::stderr());
    // Whoever reads the log may go away; that is no reason to end.
    let logs = fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(log)
}
