//! The messages to send: given on the command line, typed at a terminal, or read from a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::vec;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

/// What a person types to end.
const QUIT: &[u8] = b"quit";

pub(crate) enum Input {
    Given(vec::IntoIter<String>),
    Terminal(Box<Editor<(), MemHistory>>),
    Pipe(io::StdinLock<'static>),
}

impl Input {
    pub(crate) fn new(given: Vec<String>) -> io::Result<Self> {
        if !given.is_empty() {
            return Ok(Self::Given(given.into_iter()));
        }
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            let editor = Editor::with_history(Config::default(), MemHistory::new());
            return editor.map(|editor| Self::Terminal(Box::new(editor))).map_err(io::Error::other);
        }
        Ok(Self::Pipe(io::stdin().lock()))
    }

    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next message, without its newline; `None` at the end, or at `quit`.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = match self {
            Self::Given(messages) => return Ok(messages.next().map(String::into_bytes)),
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    Some(line.into_bytes())
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => None,
                Err(error) => return Err(io::Error::other(error)),
            },
            Self::Pipe(stdin) => {
                let mut line = Vec::new();
                let n = stdin.read_until(b'\n', &mut line)?;
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                (n > 0).then_some(line)
            }
        };
        Ok(line.filter(|line| line != QUIT))
    }
}

/// The terminal's settings, to put back when the process ends in the middle of a line.
pub(crate) struct Terminal(Option<Termios>);

impl Terminal {
    pub(crate) fn save() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }

    pub(crate) fn restore(&self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
    }
}
