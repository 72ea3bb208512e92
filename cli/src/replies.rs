//! The server's replies: printed as they come, and counted, so that the sender knows how far the
//! conversation is.

use std::io::{self, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::Remaining;
use countersign_host::Received;

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
        if part.remaining == Remaining::End {
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

    /// Waits until `count` whole replies have come, or no more do, or nothing has for `patience`.
    pub(crate) fn wait_whole(&self, count: u64, patience: Option<Duration>) {
        let since = Instant::now();
        let mut state = self.lock();
        while !state.over && state.whole < count {
            let Some(patience) = patience else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let silent = state.last.max(since).elapsed();
            let Some(left) = patience.checked_sub(silent) else { break };
            state = self.sleep(state, left);
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
    for chunk in bytes.utf8_chunks() {
        let mut plain = chunk.valid();
        while let Some(at) = plain.find(|c| !is_plain(c)) {
            let (before, remaining) = plain.split_at(at);
            let len = remaining.chars().next().map_or(0, char::len_utf8);
            let (odd, remaining) = remaining.split_at(len);
            out.write_all(before.as_bytes())?;
            write_escaped(out, odd.as_bytes())?;
            plain = remaining;
        }
        out.write_all(plain.as_bytes())?;
        write_escaped(out, chunk.invalid())?;
    }
    Ok(())
}

fn write_escaped(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
}

/// Text, lines and tabs; neither a control, C0 or C1, nor what turns the direction of text around.
fn is_plain(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(c, '\n' | '\t') || !(c.is_control() || turns)
}

pub(crate) struct Mark {
    bytes: u64,
    whole: u64,
    at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_commands_a_terminal() {
        let shown = |bytes: &[u8]| {
            let mut out = Vec::new();
            write_visible(&mut out, bytes).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown("Größe\t1\n".as_bytes()), "Größe\t1\n");
        assert_eq!(shown(b"\x1b[31m\x07\x7f\r"), "\\x1b[31m\\x07\\x7f\\x0d");
        assert_eq!(shown(b"\xc2\x9b31m \x9b \xff"), "\\xc2\\x9b31m \\x9b \\xff");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
        assert_eq!(shown(b""), "");
    }
}
