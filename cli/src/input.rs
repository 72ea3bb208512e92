//! The messages to send: from the command line, a terminal or a pipe.

use std::io::{self, BufRead, IsTerminal};
use std::vec;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};

/// The line that ends the input.
const QUIT: &[u8] = b"quit";

/// A source of messages.
pub(crate) enum Input {
    Given(vec::IntoIter<String>),
    Terminal(Box<Editor<(), MemHistory>>),
    Pipe(io::StdinLock<'static>),
}

impl Input {
    /// The messages `given` on the command line, else those of standard input.
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

    /// The next message, without its newline; `None` at the end of the input or at `quit`.
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

/// The settings of the terminal, to be restored if the process exits while a line is edited.
pub(crate) struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    pub(crate) fn save() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }

    pub(crate) fn restore(&self) {
        if let Some(settings) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
    }
}
