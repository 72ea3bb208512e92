extern crate std;

use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

use super::*;

const IDENTITIES: [Identity; 5] = [
    Identity::NotMe,
    Identity::Unexpected,
    Identity::MyName,
    Identity::Myself,
    Identity::NotAdmitted,
];

const CERTIFICATES: [BadTls; 5] = [
    BadTls::NoCertificate,
    BadTls::Expired,
    BadTls::Untrusted,
    BadTls::OtherName,
    BadTls::Unusable,
];

fn all() -> Vec<Error> {
    let mut all = std::vec![Error::WrongKey, Error::FrameTooLong { len: 9 }, Error::Lost];
    all.extend([Refuse::Unknown, Refuse::Reflected].map(Error::Refused));
    all.extend([Truncated::Handshake, Truncated::Message].map(Error::Truncated));
    all.extend([TimedOut::Handshake, TimedOut::Receive, TimedOut::Send].map(Error::TimedOut));
    let reasons = [Reason::Shutdown, Reason::Protocol, Reason::Timeout, Reason::Application];
    all.extend(reasons.map(Error::Aborted));
    all.extend(IDENTITIES.map(Error::Identity));
    all.extend([Refuse::OutOfDate, Refuse::WrongRole].map(Error::Refused));
    all.extend([Error::Malformed, Error::NothingInCommon]);
    all.extend(
        [Alert::Refused, Alert::NothingInCommon, Alert::Busy, Alert::Malformed].map(Error::Alert),
    );
    all.extend([Alert::TimedOut, Alert::Unknown(9)].map(Error::Alert));
    let frames =
        [BadFrame::Tag, BadFrame::Length, BadFrame::Type, BadFrame::Payload, BadFrame::Order];
    all.extend(frames.map(Error::Frame));
    all.extend(CERTIFICATES.map(Error::Tls));
    let tls = [BadTls::NothingInCommon, BadTls::Broken, BadTls::Alert(40), BadTls::KeysUsedUp];
    all.extend(tls.map(Error::Tls));
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
    let refusals: Vec<_> = all().into_iter().filter(|error| error.is_refusal()).collect();
    let mut known = std::vec![Error::WrongKey];
    known.extend([Refuse::Unknown, Refuse::Reflected].map(Error::Refused));
    known.extend(IDENTITIES.map(Error::Identity));
    known.extend([Refuse::OutOfDate, Refuse::WrongRole].map(Error::Refused));
    known.extend(CERTIFICATES.map(Error::Tls));
    assert_eq!(refusals, known);
}

#[test]
fn an_alert_about_certificates_is_one_of_those_of_the_rfc() {
    let about: Vec<u8> =
        (0..=255).filter(|&code| BadTls::Alert(code).is_about_certificates()).collect();
    assert_eq!(about, [42, 43, 44, 45, 46, 48, 49, 51, 116]);
    assert!(Error::Tls(BadTls::Alert(48)).to_string().contains("--tls-cert"));
    assert!(!Error::Tls(BadTls::Alert(40)).to_string().contains("--tls-cert"));
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
        "tls-no-certificate",
        "tls-certificate-expired",
        "tls-certificate-untrusted",
        "tls-certificate-other-name",
        "tls-certificate-unusable",
        "tls-nothing-in-common",
        "tls-broken",
        "tls-alert",
        "tls-keys-used-up",
        "peer-closed-shutdown",
        "peer-closed-protocol",
        "peer-closed-timeout",
        "peer-closed-application",
        "truncated-stream",
        "peer-silent",
    ];
    assert_eq!(words, known);
}
