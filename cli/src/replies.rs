//! The server's replies: printed as they come, and counted, so that the sender knows how far the
//! conversation is.

use std::io::{self, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::Rest;
use countersign_drive::Received;

/// Silence after which a reply of unknown length counts as whole.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) struct Replies {
    state: Mutex<State>,
    changed: Condvar,
    /// Messages have no boundaries.
    raw: bool,
    /// A person reads them.
    terminal: bool,
}

struct State {
    /// Bytes received so far.
    bytes: u64,
    /// Whole replies received so far; of a raw stream, always 0.
    whole: u64,
    last: Instant,
    /// The output is at the beginning of a line.
    line_start: bool,
    over: bool,
}

impl Replies {
    pub(crate) fn new(raw: bool) -> Self {
        let state =
            State { bytes: 0, whole: 0, last: Instant::now(), line_start: true, over: false };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            raw,
            terminal: io::stdout().is_terminal(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a part of a reply.
    pub(crate) fn print(&self, part: &Received) -> io::Result<()> {
        let mut state = self.lock();
        let mut out = io::stdout().lock();
        if self.terminal {
            write_visible(&mut out, &part.bytes)?;
        } else {
            out.write_all(&part.bytes)?;
        }
        if let Some(&byte) = part.bytes.last() {
            state.line_start = byte == b'\n';
        }
        if part.rest == Rest::End {
            out.write_all(b"\n")?;
            state.line_start = true;
            state.whole += 1;
        }
        out.flush()?;
        state.bytes += part.bytes.len() as u64;
        state.last = Instant::now();
        self.changed.notify_all();
        Ok(())
    }

    /// No more replies come.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// How many whole replies have come; of a raw stream, none.
    pub(crate) fn whole(&self) -> u64 {
        self.lock().whole
    }

    /// Waits until `count` whole replies have come, or no more do.
    pub(crate) fn wait_whole(&self, count: u64) {
        let mut state = self.lock();
        while !state.over && state.whole < count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether any byte of a reply has come.
    pub(crate) fn any(&self) -> bool {
        let state = self.lock();
        state.bytes > 0 || state.whole > 0
    }

    /// How far the replies are; to be passed to [`wait`](Self::wait).
    pub(crate) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark { bytes: state.bytes, whole: state.whole, at: Instant::now() }
    }

    /// Waits for the reply to a message of `len` bytes that was sent after `mark`: a whole one, or
    /// of a raw stream as many bytes, or some and then a little silence; for `patience` at most if
    /// nothing comes at all.
    pub(crate) fn wait(&self, mark: &Mark, len: usize, patience: Duration) {
        let mut state = self.lock();
        while !state.over
            && !(if self.raw {
                state.bytes - mark.bytes >= len as u64
            } else {
                state.whole > mark.whole
            })
        {
            let (since, patience) = if state.bytes > mark.bytes {
                (state.last, if self.raw { SETTLE } else { patience })
            } else {
                (mark.at, patience)
            };
            let Some(left) = patience.checked_sub(since.elapsed()) else { break };
            state = self.sleep(state, left);
        }
    }

    /// Waits for the end of the replies, or for `silence`. Returns whether it was the end.
    pub(crate) fn wait_end(&self, silence: Duration) -> bool {
        let began = Instant::now();
        let mut state = self.lock();
        while !state.over {
            let Some(left) = silence.checked_sub(state.last.max(began).elapsed()) else { break };
            state = self.sleep(state, left);
        }
        state.over
    }

    /// Ends the line that a raw reply may have left open.
    pub(crate) fn end_line(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.line_start {
            return Ok(());
        }
        state.line_start = true;
        let mut out = io::stdout().lock();
        out.write_all(b"\n")?;
        out.flush()
    }

    fn sleep<'a>(&'a self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Writes `bytes` so that none of them can command a terminal: nobody has vouched for them.
fn write_visible(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunk_by(|a, b| is_plain(*a) == is_plain(*b)) {
        if chunk.first().copied().is_some_and(is_plain) {
            out.write_all(chunk)?;
        } else {
            for byte in chunk {
                write!(out, "\\x{byte:02x}")?;
            }
        }
    }
    Ok(())
}

/// Text in UTF-8, lines and tabs, and no C0 control.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\t' | b' '..=b'~' | 0x80..)
}

pub(crate) struct Mark {
    bytes: u64,
    whole: u64,
    at: Instant,
}
