//! `countersign connect`.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use countersign::{Alert, ChannelErrorKind, Error, Framing, KeyRejection, Scheme};
use countersign_host::{CallError, PoolOptions};

use crate::args::ConnectArgs;
use crate::blocking_client::{self, BlockingClient};
use crate::client_setup::{ClientSetup, client_setup};
use crate::hints::{connect_hint, hint, with_hint};
use crate::input::{Input, TerminalSettings};
use crate::reply_printer::ReplyPrinter;
use crate::{Exit, Failed, report, say};

/// How long one thread waits for the other to learn why the conversation ended.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// What the sending thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sending,
    /// Waiting for the next message, which the user may never type.
    WaitingForInput,
    /// All messages are sent.
    Finished,
}

/// The state that the sending and the receiving thread share.
struct Conversation {
    client: Box<dyn BlockingClient>,
    /// The scheme is `challenge`: the server rejects a wrong key by closing the connection, without a
    /// message.
    challenge: bool,
    replies: ReplyPrinter,
    terminal: TerminalSettings,
    framing: Framing,
    inside_tls: bool,
    /// Messages sent or being sent.
    sent: AtomicU64,
    stage: Mutex<Stage>,
    stage_changed: Condvar,
    /// How receiving ended, once it has.
    outcome: Mutex<Option<Result<(), CallError>>>,
}

pub(crate) fn run(args: &ConnectArgs) -> Result<(), Failed> {
    let buffers = PoolOptions::default();
    let ClientSetup { factory, keys, config, inside_tls } =
        client_setup(&args.protocol, &args.tls, &args.address, args.expect_server, &buffers)?;
    let framing = config.framing();
    let challenge = matches!(config.scheme(), Scheme::Challenge { .. });
    let client = blocking_client::connect(args.adapter, &args.address, &factory, keys)
        .map_err(|error| explain(&error, &format!("{}: ", args.address)))?;

    let failure = |error: io::Error| Failed::new(Exit::Failure, error);
    let mut input = Input::new(args.message.clone()).map_err(failure)?;
    let conversation = Arc::new(Conversation {
        client,
        challenge,
        replies: ReplyPrinter::new(framing == Framing::Raw),
        terminal: TerminalSettings::save(),
        framing,
        inside_tls,
        sent: AtomicU64::new(0),
        stage: Mutex::new(Stage::Sending),
        stage_changed: Condvar::new(),
        outcome: Mutex::new(None),
    });
    let receiver = conversation.clone();
    thread::spawn(move || receiver.receive());
    if input.is_terminal() {
        say(&format!("connected to {}: each line is a message, `quit` ends", args.address));
    }
    // In a byte stream, only the order of sending and receiving tells which message a reply answers.
    let lockstep = input.is_terminal() || framing == Framing::Raw;
    loop {
        conversation.enter(Stage::WaitingForInput);
        let message = input.next().map_err(failure)?;
        conversation.enter(Stage::Sending);
        let Some(message) = message else { break };
        if message.is_empty() && framing == Framing::Raw {
            continue;
        }
        conversation.send(&message, lockstep.then_some(args.linger))?;
    }
    conversation.finish(args.linger)
}

impl Conversation {
    /// Sends a message. With `timeout`, waits for its reply until the server is silent for that long.
    fn send(&self, message: &[u8], timeout: Option<Duration>) -> Result<(), Failed> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let position = self.replies.position();
        self.client.send(message).map_err(|error| self.send_error(&error))?;
        if let Some(timeout) = timeout {
            self.replies.wait_reply(&position, message.len(), timeout);
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

    /// Ends our side of the stream and waits for the server to end its side. Stops waiting when the server
    /// is silent for `linger`: in a byte stream the number of replies is unknown, and simple servers never
    /// close. With framing, each message gets its reply first.
    fn finish(&self, linger: Duration) -> Result<(), Failed> {
        self.enter(Stage::Finished);
        let sent = self.sent.load(Ordering::Relaxed);
        if self.inside_tls && self.framing != Framing::Raw {
            // A peer that speaks TLS 1.2 may answer our close_notify with its own and discard pending
            // data (RFC 5246, section 7.2.1). So the replies are read first.
            self.replies.wait_complete(sent, Some(linger));
        }
        self.client.finish().map_err(|error| self.send_error(&error))?;
        if self.framing != Framing::Raw {
            self.replies.wait_complete(sent, None);
        }
        let ended = self.replies.wait_end(linger);
        self.replies.end_line().map_err(|error| Failed::new(Exit::Failure, error))?;
        if ended {
            self.result()
        } else if self.framing == Framing::Sealed {
            // Without the authenticated end of stream, an attacker may have cut off messages.
            Err(Failed::new(
                Exit::Connection,
                "the server did not send its end of stream: messages may be missing; allow more time with --linger, or see its log",
            ))
        } else {
            Ok(())
        }
    }

    /// Prints replies until they end. Runs on a thread of its own.
    fn receive(&self) {
        let outcome = loop {
            match self.client.recv_chunk() {
                Ok(Some(chunk)) => {
                    if let Err(error) = self.replies.print(&chunk) {
                        // The reader of standard output has closed it.
                        self.exit(&Err(Failed::new(Exit::Failure, error)));
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        *self.outcome() = Some(outcome);
        self.replies.end();
        // The sending thread ends the process, unless it waits for input that may never come.
        let mut stage = self.stage();
        loop {
            let settled = stage.eq(&Stage::WaitingForInput);
            let waited = self.stage_changed.wait_timeout(stage, REASON_TIMEOUT);
            stage = waited.unwrap_or_else(PoisonError::into_inner).0;
            if settled && *stage == Stage::WaitingForInput {
                let _ = self.replies.end_line();
                // The lock on the stage keeps the sending thread from going on.
                self.exit(&self.result_at(*stage));
            }
        }
    }

    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), CallError>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exit(&self, result: &Result<(), Failed>) -> ! {
        self.terminal.restore();
        process::exit(report(result).into());
    }

    /// Why sending failed. The result of receiving, if it has failed too, says more than a broken pipe.
    fn send_error(&self, error: &CallError) -> Failed {
        if self.replies.wait_end(REASON_TIMEOUT)
            && let Err(failed) = self.result()
        {
            return failed;
        }
        explain(error, "")
    }

    /// The result of the command, once the replies have ended.
    fn result(&self) -> Result<(), Failed> {
        let stage = *self.stage();
        self.result_at(stage)
    }

    fn result_at(&self, stage: Stage) -> Result<(), Failed> {
        let outcome = self.outcome();
        let lost = matches!(
            &*outcome,
            Some(Ok(()) | Err(CallError::Io(_) | CallError::Protocol(Error::Truncated(_))))
        );
        let finished = stage == Stage::Finished;
        let sent = self.sent.load(Ordering::Relaxed);
        if lost && self.challenge && (sent > 0 || !finished) && !self.replies.any() {
            return Err(Failed::new(
                Exit::Refused,
                "the server closed the connection right after our answer to its challenge: check that both ends have the same key and digest; see --key-file and --digest",
            ));
        }
        let lost = |what: &str| {
            let remedy = "connect again, or see the server's log";
            Err(Failed::new(
                Exit::Connection,
                format!("the server closed the connection{what}: {remedy}"),
            ))
        };
        let complete = self.replies.complete();
        match &*outcome {
            Some(Err(error)) => Err(explain(error, "")),
            Some(Ok(())) if self.framing != Framing::Raw && complete < sent => {
                lost(&format!(" after {complete} replies to {sent} messages"))
            }
            Some(Ok(())) if !finished => lost(""),
            _ => Ok(()),
        }
    }
}

/// The exit code and the message for `error`, with a hint at options that help.
pub(crate) fn explain(error: &CallError, prefix: &str) -> Failed {
    let (exit, hint) = match error {
        CallError::Connect(error) => (Exit::Connection, connect_hint(error)),
        CallError::Io(_) => (Exit::Connection, Some("connect again, or see the server's log")),
        CallError::Start(_) => (Exit::Failure, None),
        CallError::Protocol(error) => (exit_code(*error), hint(error)),
        CallError::Send(_)
        | CallError::TimedOut
        | CallError::Busy
        | CallError::MessageTooLong
        | CallError::PeerFinished
        | _ => (Exit::Connection, None),
    };
    Failed::new(exit, format!("{prefix}{}", with_hint(error, hint)))
}

fn exit_code(error: Error) -> Exit {
    match error {
        Error::Refused(KeyRejection::Reflected)
        | Error::WrongKey
        | Error::Identity(_)
        | Error::Incompatible
        | Error::Alert(Alert::Refused | Alert::Incompatible) => Exit::Refused,
        // The client itself has no key for this server.
        Error::Refused(_) => Exit::Usage,
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
    }
}
