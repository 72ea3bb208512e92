//! The log lines of this process.

use std::fmt;
use std::sync::{Condvar, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::TIMEOUT;

#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
}

static LOG: LazyLock<Log> = LazyLock::new(Log::default);

/// Captures the log of this process from now on.
pub(crate) fn capture() -> &'static Log {
    // Only the first call has an effect.
    let _ = tracing::subscriber::set_global_default(Capture);
    &LOG
}

impl Log {
    /// The first line that contains `text`. Waits for it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let lines = self.lines.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, result) = self.changed.wait_timeout_while(lines, TIMEOUT, missing).unwrap();
        assert!(!result.timed_out(), "no line with {text:?}: {lines:#?}");
        lines.iter().find(|line| line.contains(text)).unwrap().clone()
    }
}

struct Capture;

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "countersign"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LOG.lines.lock().unwrap().push(line.0);
        LOG.changed.notify_all();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
