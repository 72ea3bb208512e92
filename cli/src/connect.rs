//! `countersign connect`.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use countersign::{Error, Framing, Scheme};
use countersign_drive::{PoolOptions, Pools, Sessions};
use countersign_std::{Client, ClientError, ClientOptions};

use crate::args::ConnectArgs;
use crate::input::{Input, Terminal};
use crate::replies::Replies;
use crate::secret::{self, Missing};
use crate::{Exit, Failed, report};

/// How long a send that failed waits for the receiving side to learn why.
const REASON: Duration = Duration::from_secs(1);

/// What the sending and the receiving thread share.
struct Conversation {
    client: Client,
    scheme: Scheme,
    replies: Replies,
    terminal: Terminal,
    /// Messages sent or being sent.
    sent: AtomicUsize,
    /// We have said that nothing more comes.
    finished: AtomicBool,
    /// How receiving ended.
    outcome: Mutex<Option<Result<(), ClientError>>>,
}

pub(crate) fn run(args: &ConnectArgs) -> Result<(), Failed> {
    let found = secret::find(&args.protocol, Missing::Fail)?;
    let config = args.protocol.config();
    let (scheme, framing) = (config.scheme(), config.framing());
    let sessions = Sessions::new(config, Pools::new(&PoolOptions::default()));
    let options = ClientOptions::default();
    let client = Client::connect(&args.address, &sessions, &found.key, &options)
        .map_err(|error| explain(&error, &format!("{}: ", args.address)))?;

    let failure = |error: io::Error| Failed::new(Exit::Failure, error);
    let mut input = Input::new(args.message.clone()).map_err(failure)?;
    let conversation = Arc::new(Conversation {
        client,
        scheme,
        replies: Replies::new(framing == Framing::Raw),
        terminal: Terminal::save(),
        sent: AtomicUsize::new(0),
        finished: AtomicBool::new(false),
        outcome: Mutex::new(None),
    });
    let receiver = conversation.clone();
    thread::spawn(move || receiver.receive());
    if input.is_terminal() {
        eprintln!("connected to {}: type messages, `quit` ends", args.address);
    }
    // Of a byte stream only what comes before the next message can be told to answer this one.
    let in_step = input.is_terminal() || framing == Framing::Raw;
    while let Some(message) = input.next().map_err(failure)? {
        if message.is_empty() && framing == Framing::Raw {
            continue;
        }
        conversation.say(&message, in_step.then_some(args.linger))?;
    }
    conversation.finish(args.linger)
}

impl Conversation {
    /// Sends a message and, for at most `patience` of silence, waits for its reply.
    fn say(&self, message: &[u8], patience: Option<Duration>) -> Result<(), Failed> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let mark = self.replies.mark();
        self.client.send(message).map_err(|error| self.why(&error))?;
        if let Some(patience) = patience {
            self.replies.wait(&mark, message.len(), patience);
            self.replies.end_line().map_err(|error| Failed::new(Exit::Failure, error))?;
        }
        Ok(())
    }

    /// Says that nothing more comes, and leaves when the server agrees, or is silent for `linger`:
    /// the recipe's servers never close.
    fn finish(&self, linger: Duration) -> Result<(), Failed> {
        self.finished.store(true, Ordering::Release);
        self.client.finish().map_err(|error| self.why(&error))?;
        let over = self.replies.wait_end(linger);
        self.replies.end_line().map_err(|error| Failed::new(Exit::Failure, error))?;
        if over { self.verdict() } else { Ok(()) }
    }

    /// Prints replies until there are no more.
    fn receive(&self) {
        let outcome = loop {
            match self.client.recv_part() {
                Ok(Some(part)) => {
                    if let Err(error) = self.replies.print(&part) {
                        // Nobody reads what we print.
                        self.exit(&Err(Failed::new(Exit::Failure, error)));
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        *self.outcome() = Some(outcome);
        self.replies.end();
        if !self.finished.load(Ordering::Acquire) {
            // The other thread may be waiting for a line that nobody will type.
            let _ = self.replies.end_line();
            self.exit(&self.verdict());
        }
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), ClientError>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exit(&self, result: &Result<(), Failed>) -> ! {
        self.terminal.restore();
        process::exit(report(result).into());
    }

    /// Why sending failed: what the receiving side has learnt says more than a broken pipe.
    fn why(&self, error: &ClientError) -> Failed {
        if self.replies.wait_end(REASON)
            && let Err(failed) = self.verdict()
        {
            return failed;
        }
        explain(error, "")
    }

    /// What the end of the replies means.
    fn verdict(&self) -> Result<(), Failed> {
        let outcome = self.outcome();
        let lost = matches!(
            &*outcome,
            Some(Ok(()) | Err(ClientError::Io(_) | ClientError::Protocol(Error::Truncated(_))))
        );
        let finished = self.finished.load(Ordering::Acquire);
        let due = self.sent.load(Ordering::Relaxed) > 0 || !finished;
        let challenged = matches!(self.scheme, Scheme::Challenge { .. });
        if lost && challenged && due && !self.replies.any() {
            return Err(Failed::new(
                Exit::Refused,
                "the server closed the connection right after our answer to its challenge: does it have another key, or use another digest (--digest)?",
            ));
        }
        match &*outcome {
            Some(Err(error)) => Err(explain(error, "")),
            Some(Ok(())) if !finished => Err(Failed::new(
                Exit::Connection,
                "the server closed the connection: connect again, or look into its log",
            )),
            _ => Ok(()),
        }
    }
}

fn explain(error: &ClientError, prefix: &str) -> Failed {
    let (exit, hint) = match error {
        ClientError::Connect(error) => (
            Exit::Connection,
            match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                    ": is the server running, and is this its address?"
                }
                io::ErrorKind::TimedOut => ": is the address right, and does a firewall permit it?",
                _ => "",
            },
        ),
        ClientError::Io(_) => (Exit::Connection, ": connect again, or look into the server's log"),
        ClientError::Start(_) => (Exit::Failure, ""),
        ClientError::Protocol(error) => (
            match error {
                Error::WrongKey | Error::Refused(_) => Exit::Refused,
                Error::FrameTooLong { .. } => Exit::Protocol,
                _ => Exit::Connection,
            },
            "",
        ),
        ClientError::Send(_) | ClientError::TimedOut => (Exit::Connection, ""),
    };
    Failed::new(exit, format!("{prefix}{error}{hint}"))
}
