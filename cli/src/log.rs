//! The log, on standard error.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::args::LogFormat;
use crate::{Exit, Failed};

/// Writes the buffered lines when it is dropped.
pub(crate) type Log = WorkerGuard;

/// Starts logging. A separate thread writes the lines, and lines are dropped when its queue is full:
/// neither a slow reader of the log nor an attacker who causes many lines can block the server.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<Log, Failed> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failed::new(Exit::Usage, format!("--log: {error}")))?;
    let (writer, log) = NonBlockingBuilder::default().lossy(true).finish(io::stderr());
    // The reader of the log may close it: that must not end the server.
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
