extern crate std;

use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use super::*;

const IDENTITIES: [IdentityError; 5] = [
    IdentityError::WrongServer,
    IdentityError::UnexpectedServer,
    IdentityError::SameName,
    IdentityError::SameProcess,
    IdentityError::NameNotAllowed,
];

static CHANNEL: ChannelErrorInfo = ChannelErrorInfo {
    code: "channel-error",
    message: "the channel failed: connect again",
    kind: ChannelErrorKind::Protocol,
};

/// Every error once, in the order of the codes in `error_codes_are_stable`.
fn all_errors() -> Vec<Error> {
    let mut all = std::vec![Error::WrongKey, Error::FrameTooLong { len: 9 }, Error::Transport];
    all.extend([KeyRejection::Unknown, KeyRejection::Reflected].map(Error::Refused));
    all.extend([Truncated::Handshake, Truncated::Message].map(Error::Truncated));
    all.extend([TimedOut::Handshake, TimedOut::Receive, TimedOut::Send].map(Error::TimedOut));
    let reasons = [
        CloseReason::Shutdown,
        CloseReason::Protocol,
        CloseReason::Timeout,
        CloseReason::Application,
    ];
    all.extend(reasons.map(Error::Aborted));
    all.extend(IDENTITIES.map(Error::Identity));
    all.extend([KeyRejection::OutOfDate, KeyRejection::WrongRole].map(Error::Refused));
    all.extend([Error::Malformed, Error::Incompatible]);
    all.extend(
        [Alert::Refused, Alert::Incompatible, Alert::Busy, Alert::Malformed].map(Error::Alert),
    );
    all.extend([Alert::TimedOut, Alert::Unknown(9)].map(Error::Alert));
    let frames = [
        FrameError::Tag,
        FrameError::Length,
        FrameError::Type,
        FrameError::Payload,
        FrameError::Order,
    ];
    all.extend(frames.map(Error::Frame));
    all.push(Error::Channel(ChannelError::new(&CHANNEL)));
    all.extend(reasons.map(Error::PeerClosed));
    all.push(Error::Truncated(Truncated::Stream));
    all.push(Error::TimedOut(TimedOut::Peer));
    all
}

/// Every item displays as one line of at least nine bytes, and no two lines are the same.
fn assert_unique_lines<T: ToString>(all: &[T]) {
    let lines: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), all.len());
    assert!(lines.iter().all(|line| line.len() > 8 && !line.contains('\n')), "{lines:?}");
}

#[test]
fn error_codes_and_messages_are_unique() {
    let codes: BTreeSet<_> = all_errors().into_iter().map(Error::code).collect();
    assert_eq!(codes.len(), all_errors().len());
    for code in codes {
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && code.len() > 3);
    }
    assert_unique_lines(&all_errors());
    assert_unique_lines(&[
        ConfigError::HandshakeBuffer { needed: 64 },
        ConfigError::Buffer { needed: 64 },
        ConfigError::Busy,
        ConfigError::Framing,
        ConfigError::Unprotected,
        ConfigError::Heartbeat,
        ConfigError::Digest,
    ]);
    assert_unique_lines(&[
        KeyError::Empty,
        KeyError::TooShort,
        KeyError::TooLong,
        KeyError::Purpose,
        KeyError::NotAsked,
    ]);
    assert_unique_lines(&[
        SendError::Full,
        SendError::TooLong { max: 7 },
        SendError::LengthNeeded,
        SendError::LengthMismatch { due: 7 },
        SendError::NotEstablished,
        SendError::Finished,
        SendError::Ended,
    ]);
}

#[test]
fn only_failed_proofs_are_authentication_failures() {
    let refusals: Vec<_> =
        all_errors().into_iter().filter(|error| error.is_authentication_failure()).collect();
    let mut known = std::vec![Error::WrongKey];
    known.extend([KeyRejection::Unknown, KeyRejection::Reflected].map(Error::Refused));
    known.extend(IDENTITIES.map(Error::Identity));
    known.extend([KeyRejection::OutOfDate, KeyRejection::WrongRole].map(Error::Refused));
    assert_eq!(refusals, known);
}

#[test]
fn error_codes_are_stable() {
    let codes: Vec<_> = all_errors().into_iter().map(Error::code).collect();
    let known = [
        "wrong-key",
        "frame-too-long",
        "connection-lost",
        "unknown-key",
        "reflected",
        "truncated-handshake",
        "truncated-message",
        "handshake-timeout",
        "receive-timeout",
        "send-timeout",
        "aborted-shutdown",
        "aborted-protocol",
        "aborted-timeout",
        "aborted-application",
        "other-server-expected",
        "unexpected-name",
        "own-name",
        "own-instance",
        "name-not-admitted",
        "key-out-of-date",
        "key-wrong-role",
        "malformed",
        "nothing-in-common",
        "alert-refused",
        "alert-nothing-in-common",
        "alert-busy",
        "alert-malformed",
        "alert-timeout",
        "alert-unknown",
        "bad-tag",
        "bad-frame-length",
        "bad-frame-type",
        "bad-frame-payload",
        "bad-frame-order",
        "channel-error",
        "peer-closed-shutdown",
        "peer-closed-protocol",
        "peer-closed-timeout",
        "peer-closed-application",
        "truncated-stream",
        "peer-silent",
    ];
    assert_eq!(codes, known);
}
