//! Prints the server's replies as they arrive and counts them, so that the sending thread can wait for
//! them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign::Remaining;
use countersign_host::OwnedChunk;

/// Silence after which a reply of unknown length counts as complete.
const SETTLE: Duration = Duration::from_millis(100);

/// Prints and counts replies. Shared by the sending and the receiving thread.
pub(crate) struct ReplyPrinter {
    state: Mutex<State>,
    changed: Condvar,
    /// Messages have no boundaries.
    raw: bool,
    /// Standard output is a terminal.
    terminal: bool,
}

struct State {
    /// Bytes received so far.
    bytes: u64,
    /// Complete replies received so far; always 0 in a raw stream.
    complete: u64,
    /// When the last chunk arrived.
    last: Instant,
    /// The output is at the beginning of a line.
    line_start: bool,
    /// No more replies arrive.
    ended: bool,
}

impl ReplyPrinter {
    pub(crate) fn new(raw: bool) -> Self {
        let state =
            State { bytes: 0, complete: 0, last: Instant::now(), line_start: true, ended: false };
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

    /// Prints a chunk of a reply.
    pub(crate) fn print(&self, chunk: &OwnedChunk) -> io::Result<()> {
        let mut state = self.lock();
        let mut out = io::stdout().lock();
        if self.terminal {
            write_visible(&mut out, &chunk.bytes)?;
        } else {
            out.write_all(&chunk.bytes)?;
        }
        if let Some(&byte) = chunk.bytes.last() {
            state.line_start = byte == b'\n';
        }
        if chunk.remaining == Remaining::End {
            out.write_all(b"\n")?;
            state.line_start = true;
            state.complete += 1;
        }
        out.flush()?;
        state.bytes += chunk.bytes.len() as u64;
        state.last = Instant::now();
        self.changed.notify_all();
        Ok(())
    }

    /// Marks the end of the replies.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// The number of complete replies so far; 0 in a raw stream.
    pub(crate) fn complete(&self) -> u64 {
        self.lock().complete
    }

    /// Waits for `count` complete replies, for the end of the replies, or until nothing has arrived for
    /// `silence`.
    pub(crate) fn wait_complete(&self, count: u64, silence: Option<Duration>) {
        let since = Instant::now();
        let mut state = self.lock();
        while !state.ended && state.complete < count {
            let Some(silence) = silence else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let elapsed = state.last.max(since).elapsed();
            let Some(left) = silence.checked_sub(elapsed) else { break };
            state = self.sleep(state, left);
        }
    }

    /// Whether any byte of a reply, or an empty reply, has arrived.
    pub(crate) fn any(&self) -> bool {
        let state = self.lock();
        state.bytes > 0 || state.complete > 0
    }

    /// The current position in the replies, for [`wait_reply`](Self::wait_reply).
    pub(crate) fn position(&self) -> Position {
        let state = self.lock();
        Position { bytes: state.bytes, complete: state.complete, at: Instant::now() }
    }

    /// Waits for the reply to a message of `len` bytes that was sent after `position`. With framing, that
    /// is one complete reply. In a raw stream it is `len` bytes, or fewer followed by [`SETTLE`]. Gives up
    /// after `timeout` of silence.
    pub(crate) fn wait_reply(&self, position: &Position, len: usize, timeout: Duration) {
        let mut state = self.lock();
        while !state.ended
            && !(if self.raw {
                state.bytes - position.bytes >= len as u64
            } else {
                state.complete > position.complete
            })
        {
            let (since, timeout) = if state.bytes > position.bytes {
                (state.last, if self.raw { SETTLE } else { timeout })
            } else {
                (position.at, timeout)
            };
            let Some(left) = timeout.checked_sub(since.elapsed()) else { break };
            state = self.sleep(state, left);
        }
    }

    /// Waits for the end of the replies, or until nothing has arrived for `silence`. Returns whether the
    /// replies have ended.
    pub(crate) fn wait_end(&self, silence: Duration) -> bool {
        let began = Instant::now();
        let mut state = self.lock();
        while !state.ended {
            let Some(left) = silence.checked_sub(state.last.max(began).elapsed()) else { break };
            state = self.sleep(state, left);
        }
        state.ended
    }

    /// Ends the line that a raw reply may have left unfinished.
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

/// Writes `bytes` with every character escaped that could control a terminal: the peer chooses the bytes.
fn write_visible(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        let mut plain = chunk.valid();
        while let Some(at) = plain.find(|c| !is_plain(c)) {
            let (before, remaining) = plain.split_at(at);
            let len = remaining.chars().next().map_or(0, char::len_utf8);
            let (special, remaining) = remaining.split_at(len);
            out.write_all(before.as_bytes())?;
            write_escaped(out, special.as_bytes())?;
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

/// Whether `c` is text, a newline or a tab: neither a C0 or C1 control nor a bidirectional control.
fn is_plain(c: char) -> bool {
    let bidirectional =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    matches!(c, '\n' | '\t') || !(c.is_control() || bidirectional)
}

/// A position in the replies.
pub(crate) struct Position {
    bytes: u64,
    complete: u64,
    at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_replies_cannot_control_a_terminal() {
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
