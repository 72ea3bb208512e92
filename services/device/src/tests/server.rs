//! The server's end.

use std::string::ToString;

use super::*;
use countersign::Remaining;

const PATIENCE: u64 = 9_000;
const OTHER: &str = "000000000000000";

fn server() -> DeviceServer {
    DeviceServer::new(DEFAULT_INTERVAL, at(0))
}

fn hears(server: &mut DeviceServer, bytes: &[u8]) -> Option<Asked> {
    server.handle_part(bytes, Remaining::End, at(1))
}

fn asks(server: &mut DeviceServer, request: Request) -> Option<Asked> {
    hears(server, request.write(&mut [0; Request::MAX_LEN]))
}

/// Fails unless it answers this now, and listens again.
#[track_caller]
fn answers(server: &mut DeviceServer, bytes: &[u8]) {
    let response = server.poll_response().unwrap();
    assert_eq!(response.write(&mut [0; Response::MAX_LEN]), bytes);
    assert!(!server.is_listening());
    server.handle_sent(at(1));
    assert!(server.is_listening());
    assert_eq!(server.poll_response(), None);
}

fn registered() -> DeviceServer {
    let mut server = server();
    let (app_id, imei) = (APP_ID.parse().unwrap(), IMEI.parse().unwrap());
    let asked = asks(&mut server, register(IMEI));
    assert_eq!(asked, Some(Asked::Register { app_id, imei }));
    assert_eq!((server.poll_response(), server.registered()), (None, None));
    server.accept();
    assert_eq!(server.registered(), Some(imei));
    answers(&mut server, b"\0\0");
    server
}

#[test]
fn every_request_is_answered() {
    let mut server = registered();
    assert_eq!(hears(&mut server, b"\0\x02"), Some(Asked::DateTime));
    assert_eq!(server.poll_response(), None);
    server.provide_time(TIME.parse().unwrap());
    answers(&mut server, b"\x02\x002026-01-31 23:59:59");
    // Whatever it calls itself.
    assert_eq!(hears(&mut server, b"\x05\x01"), Some(Asked::Heartbeat));
    answers(&mut server, b"\x01\0");
}

#[test]
fn what_is_no_request_is_answered_with_its_id_and_an_error() {
    let long = [0; 54];
    for (bytes, id, error) in [
        (&b""[..], -1, MessageError::Length),
        (b"\0", -1, MessageError::Length),
        (b"\0\x07", 7, MessageError::Id(7)),
        (b"\0\x80more", -128, MessageError::Id(-128)),
        (b"\0\0", 0, MessageError::Length),
        (b"\0\x01\0", 1, MessageError::Length),
        (&[0; 53], 0, MessageError::AppId),
        (&long, 0, MessageError::Length),
    ] {
        let mut server = server();
        let why = Refusal::Malformed(error);
        assert_eq!(hears(&mut server, bytes), Some(Asked::Refused { id, why }));
        answers(&mut server, &[i8::cast_unsigned(id), 0xff]);
        assert_eq!(hears(&mut server, b"\0\x01"), Some(Asked::Heartbeat));
    }
}

#[test]
fn who_has_not_registered_is_heard_and_not_told_the_time() {
    let mut server = server();
    assert_eq!(hears(&mut server, b"\0\x01"), Some(Asked::Heartbeat));
    answers(&mut server, b"\x01\0");
    let asked = hears(&mut server, b"\0\x02");
    assert_eq!(asked, Some(Asked::Refused { id: 2, why: Refusal::NotRegistered }));
    answers(&mut server, b"\x02\xff");
}

#[test]
fn a_refused_registration_registers_nobody() {
    let mut server = server();
    asks(&mut server, register(IMEI));
    server.refuse();
    assert_eq!(server.registered(), None);
    answers(&mut server, b"\0\xff");
    // A second attempt, of another one even, is welcome.
    asks(&mut server, register(OTHER));
    server.accept();
    assert_eq!(server.registered(), Some(OTHER.parse().unwrap()));
    answers(&mut server, b"\0\0");
}

#[test]
fn a_connection_is_one_devices() {
    let mut server = registered();
    let asked = asks(&mut server, register(OTHER));
    assert_eq!(asked, Some(Asked::Refused { id: 0, why: Refusal::OtherImei }));
    answers(&mut server, b"\0\xff");
    assert_eq!(server.registered(), Some(IMEI.parse().unwrap()));
    assert!(matches!(asks(&mut server, register(IMEI)), Some(Asked::Register { .. })));
    server.accept();
    answers(&mut server, b"\0\0");
}

#[test]
fn a_server_without_a_clock_says_so() {
    let mut server = registered();
    hears(&mut server, b"\0\x02");
    server.refuse();
    answers(&mut server, b"\x02\xff");
}

#[test]
fn one_request_at_a_time() {
    let mut server = registered();
    hears(&mut server, b"\0\x02");
    for state in 0..2 {
        assert!(!server.is_listening());
        assert_eq!(hears(&mut server, b"\0\x01"), None);
        if state == 0 {
            server.provide_time(TIME.parse().unwrap());
        }
    }
    answers(&mut server, b"\x02\x002026-01-31 23:59:59");
    // What was offered meanwhile was not taken.
    assert_eq!(server.handle_part(b"\0", Remaining::More, at(1)), None);
    assert_eq!(hears(&mut server, b"\x01"), Some(Asked::Heartbeat));
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut server = server();
    server.accept();
    server.refuse();
    server.provide_time(TIME.parse().unwrap());
    server.handle_sent(at(1));
    assert!(server.is_listening() && server.registered().is_none());
    asks(&mut server, register(IMEI));
    server.provide_time(TIME.parse().unwrap());
    server.handle_sent(at(1));
    assert_eq!((server.poll_response(), server.is_listening()), (None, false));
    server.accept();
    server.refuse();
    answers(&mut server, b"\0\0");
    hears(&mut server, b"\0\x02");
    server.accept();
    assert_eq!(server.poll_response(), None);
}

#[test]
fn a_silent_device_is_given_up_after_three_intervals() {
    let mut server = server();
    assert_eq!(server.poll_timeout(), Some(at(PATIENCE)));
    server.handle_timeout(at(PATIENCE - 1));
    assert_eq!(server.error(), None);
    server.handle_timeout(at(PATIENCE));
    assert_eq!(server.error(), Some(DeviceError::Silent));
    assert_eq!(server.poll_timeout(), None);
    assert_eq!(hears(&mut server, b"\0\x01"), None);
    assert_eq!(server.poll_response(), None);
}

#[test]
fn any_whole_message_is_a_sign_of_life() {
    let mut server = server();
    for (index, bytes) in [&b"\0\x01"[..], b"\0\x02", b"\0\x09", b""].into_iter().enumerate() {
        let now = (index as u64 + 1) * (PATIENCE - 1);
        server.handle_timeout(at(now));
        server.handle_part(bytes, Remaining::End, at(now)).unwrap();
        server.handle_sent(at(now));
        assert_eq!(server.poll_timeout(), Some(at(now + PATIENCE)));
    }
    let until = server.poll_timeout();
    server.handle_part(b"\0", Remaining::Bytes(1), at(8 * PATIENCE));
    assert_eq!(server.poll_timeout(), until);
}

#[test]
fn a_device_that_is_owed_an_answer_has_all_its_time_again_once_it_is_sent() {
    for request in [&b"\0\x01"[..], b"\0\x09"] {
        let mut server = server();
        hears(&mut server, request);
        assert_eq!(server.poll_timeout(), None);
        server.handle_timeout(at(9 * PATIENCE));
        assert_eq!(server.error(), None);
        server.handle_sent(at(10 * PATIENCE));
        assert_eq!(server.poll_timeout(), Some(at(11 * PATIENCE)));
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let mut buffer = [0; Request::MAX_LEN];
    let bytes = register(IMEI).write(&mut buffer);
    for cut in 0..bytes.len() {
        let mut server = server();
        assert_eq!(server.handle_part(&bytes[..cut], Remaining::More, at(1)), None);
        let asked = server.handle_part(&bytes[cut..], Remaining::End, at(1));
        assert!(matches!(asked, Some(Asked::Register { .. })), "{cut}");
    }
    // Nothing is kept of what is longer, but that it is.
    let mut server = server();
    let bytes = [bytes, b"0"].concat();
    let why = Refusal::Malformed(MessageError::Length);
    assert_eq!(hears(&mut server, &bytes), Some(Asked::Refused { id: 0, why }));
    server.handle_sent(at(1));
    for _ in 0..9 {
        assert_eq!(server.handle_part(&[1; 4096], Remaining::More, at(1)), None);
    }
    let asked = server.handle_part(b"", Remaining::End, at(1));
    assert_eq!(asked, Some(Asked::Refused { id: 1, why }));
}

#[test]
fn refusals_say_why() {
    for (refusal, text) in [
        (Refusal::Malformed(MessageError::Imei), "15 digits"),
        (Refusal::NotRegistered, "not registered"),
        (Refusal::OtherImei, "another IMEI"),
    ] {
        assert!(refusal.to_string().contains(text));
    }
}
