//! `countersign connect`.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use countersign::{Alert, ChannelErrorKind, Error, Framing, KeyRejection, Scheme};
use countersign_host::{ClientError, PoolOptions};

use crate::args::ConnectArgs;
use crate::end::{self, ClientEnd};
use crate::input::{Input, Terminal};
use crate::replies::Replies;
use crate::talk::{self, Talk};
use crate::{Exit, Failed, report, say};

/// How long one thread waits for the other to learn how the conversation ended.
const REASON: Duration = Duration::from_secs(1);

/// What the sending thread is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Talking,
    /// For the next message, which a person may never type.
    WaitingForInput,
    /// All is said.
    Finished,
}

/// What the sending and the receiving thread share.
struct Conversation {
    client: Box<dyn Talk>,
    /// The scheme does not tell us whether our key was right.
    challenged: bool,
    replies: Replies,
    terminal: Terminal,
    framing: Framing,
    inside_tls: bool,
    /// Messages sent or being sent.
    sent: AtomicU64,
    stage: Mutex<Stage>,
    stage_changed: Condvar,
    /// How receiving ended.
    outcome: Mutex<Option<Result<(), ClientError>>>,
}

pub(crate) fn run(args: &ConnectArgs) -> Result<(), Failed> {
    let buffers = PoolOptions::default();
    let ClientEnd { protocol, keys, config, inside_tls } =
        end::client(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let framing = config.framing();
    let challenged = matches!(config.scheme(), Scheme::Challenge { .. });
    let client = talk::connect(args.adapter, &args.address, &*protocol, &keys)
        .map_err(|error| explain(&error, &format!("{}: ", args.address)))?;

    let failure = |error: io::Error| Failed::new(Exit::Failure, error);
    let mut input = Input::new(args.message.clone()).map_err(failure)?;
    let conversation = Arc::new(Conversation {
        client,
        challenged,
        replies: Replies::new(framing == Framing::Raw),
        terminal: Terminal::save(),
        framing,
        inside_tls,
        sent: AtomicU64::new(0),
        stage: Mutex::new(Stage::Talking),
        stage_changed: Condvar::new(),
        outcome: Mutex::new(None),
    });
    let receiver = conversation.clone();
    thread::spawn(move || receiver.receive());
    if input.is_terminal() {
        say(&format!("connected to {}: type messages, `quit` ends", args.address));
    }
    // Of a byte stream only what comes before the next message can be told to answer this one.
    let in_step = input.is_terminal() || framing == Framing::Raw;
    loop {
        conversation.enter(Stage::WaitingForInput);
        let message = input.next().map_err(failure)?;
        conversation.enter(Stage::Talking);
        let Some(message) = message else { break };
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

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stage: Stage) {
        *self.stage() = stage;
        self.stage_changed.notify_all();
    }

    /// Says that nothing more comes, and leaves when the server agrees. Of a byte stream nobody
    /// knows when all answers are in, and the recipe's servers never close: so also when the server
    /// is silent for `linger`, once each framed message has its reply.
    fn finish(&self, linger: Duration) -> Result<(), Failed> {
        self.enter(Stage::Finished);
        let sent = self.sent.load(Ordering::Relaxed);
        if self.inside_tls && self.framing != Framing::Raw {
            // A peer of TLS 1.2 may answer our end with its own and drop what it has yet to say (RFC
            // 5246, 7.2.1): so the replies come first, unless there are none.
            self.replies.wait_whole(sent, Some(linger));
        }
        self.client.finish().map_err(|error| self.why(&error))?;
        if self.framing != Framing::Raw {
            self.replies.wait_whole(sent, None);
        }
        let over = self.replies.wait_end(linger);
        self.replies.end_line().map_err(|error| Failed::new(Exit::Failure, error))?;
        if over {
            self.verdict()
        } else if self.framing == Framing::Sealed {
            // Its end is a frame that nobody else can make: without it, there may have been more.
            Err(Failed::new(
                Exit::Connection,
                "the server did not say that it had finished: something may be missing; allow it more time with --linger, or look into its log",
            ))
        } else {
            Ok(())
        }
    }

    /// Prints replies until there are no more.
    fn receive(&self) {
        let outcome = loop {
            match self.client.recv_chunk() {
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
        // The sending thread ends the process, unless it waits for a line that nobody may type.
        let mut stage = self.stage();
        loop {
            let settled = stage.eq(&Stage::WaitingForInput);
            let waited = self.stage_changed.wait_timeout(stage, REASON);
            stage = waited.unwrap_or_else(PoisonError::into_inner).0;
            if settled && *stage == Stage::WaitingForInput {
                let _ = self.replies.end_line();
                // Holding the stage: the sending thread stays where it is.
                self.exit(&self.verdict_at(*stage));
            }
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
        let stage = *self.stage();
        self.verdict_at(stage)
    }

    fn verdict_at(&self, stage: Stage) -> Result<(), Failed> {
        let outcome = self.outcome();
        let lost = matches!(
            &*outcome,
            Some(Ok(()) | Err(ClientError::Io(_) | ClientError::Protocol(Error::Truncated(_))))
        );
        let finished = stage == Stage::Finished;
        let sent = self.sent.load(Ordering::Relaxed);
        if lost && self.challenged && (sent > 0 || !finished) && !self.replies.any() {
            return Err(Failed::new(
                Exit::Refused,
                "the server closed the connection right after our answer to its challenge: does it have another key, or use another digest (--digest)?",
            ));
        }
        let lost = |what: &str| {
            let try_this = "connect again, or look into the server's log";
            Err(Failed::new(
                Exit::Connection,
                format!("the server closed the connection{what}: {try_this}"),
            ))
        };
        let whole = self.replies.whole();
        match &*outcome {
            Some(Err(error)) => Err(explain(error, "")),
            Some(Ok(())) if self.framing != Framing::Raw && whole < sent => {
                lost(&format!(" after {whole} replies to {sent} messages"))
            }
            Some(Ok(())) if !finished => lost(""),
            _ => Ok(()),
        }
    }
}

/// What to tell of `error`, and what to end with.
pub(crate) fn explain(error: &ClientError, prefix: &str) -> Failed {
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
        ClientError::Protocol(Error::Refused(KeyRejection::Reflected)) => (Exit::Refused, ""),
        ClientError::Protocol(Error::Refused(_)) => (
            Exit::Usage,
            ": it is our own keys that have none for this server: give --kid, or a key with roles = [\"client\"]",
        ),
        ClientError::Protocol(error) => (
            match error {
                Error::WrongKey
                | Error::Identity(_)
                | Error::Incompatible
                | Error::Alert(Alert::Refused | Alert::Incompatible) => Exit::Refused,
                Error::Channel(channel)
                    if matches!(
                        channel.kind(),
                        ChannelErrorKind::Authentication | ChannelErrorKind::Rejected
                    ) =>
                {
                    Exit::Refused
                }
                Error::Malformed
                | Error::Channel(_)
                | Error::Alert(Alert::Malformed)
                | Error::Frame(_)
                | Error::FrameTooLong { .. } => Exit::Protocol,
                _ => Exit::Connection,
            },
            "",
        ),
        ClientError::Send(_) | ClientError::TimedOut | ClientError::Busy | ClientError::TooLong => {
            (Exit::Connection, "")
        }
    };
    Failed::new(exit, format!("{prefix}{error}{hint}"))
}
