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

fn all() -> Vec<Error> {
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

/// A line for a person: something was said, and it is not said of anything else.
fn assert_told_apart<T: ToString>(all: &[T]) {
    let said: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), all.len());
    assert!(said.iter().all(|line| line.len() > 8 && !line.contains('\n')), "{said:?}");
}

#[test]
fn each_error_has_a_word_and_a_line_of_its_own() {
    let words: BTreeSet<_> = all().into_iter().map(Error::code).collect();
    assert_eq!(words.len(), all().len());
    for word in words {
        assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && word.len() > 3);
    }
    assert_told_apart(&all());
    assert_told_apart(&[
        ConfigError::HandshakeBuffer { needed: 64 },
        ConfigError::Buffer { needed: 64 },
        ConfigError::Busy,
        ConfigError::Framing,
        ConfigError::Unprotected,
        ConfigError::Heartbeat,
        ConfigError::Digest,
    ]);
    assert_told_apart(&[
        KeyError::Empty,
        KeyError::TooShort,
        KeyError::TooLong,
        KeyError::Purpose,
        KeyError::NotAsked,
    ]);
    assert_told_apart(&[
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
fn a_refusal_is_a_failed_proof_and_nothing_else() {
    let refusals: Vec<_> =
        all().into_iter().filter(|error| error.is_authentication_failure()).collect();
    let mut known = std::vec![Error::WrongKey];
    known.extend([KeyRejection::Unknown, KeyRejection::Reflected].map(Error::Refused));
    known.extend(IDENTITIES.map(Error::Identity));
    known.extend([KeyRejection::OutOfDate, KeyRejection::WrongRole].map(Error::Refused));
    assert_eq!(refusals, known);
}

#[test]
fn the_words_are_those_that_log_watchers_know() {
    let words: Vec<_> = all().into_iter().map(Error::code).collect();
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
    assert_eq!(words, known);
}
