//! The server's side.

use std::string::ToString;

use super::*;
use countersign::Remaining;

const TIMEOUT: u64 = 9_000;
const OTHER: &str = "000000000000000";

fn server() -> DeviceServer {
    DeviceServer::new(DEFAULT_INTERVAL, at(0))
}

fn receive(server: &mut DeviceServer, bytes: &[u8]) -> Option<DeviceEvent> {
    server.handle_chunk(bytes, Remaining::End, at(1))
}

fn request(server: &mut DeviceServer, request: Request) -> Option<DeviceEvent> {
    receive(server, request.write(&mut [0; Request::MAX_LEN]))
}

/// Checks that the response is `bytes`, and sends it.
#[track_caller]
fn respond(server: &mut DeviceServer, bytes: &[u8]) {
    let response = server.poll_response().unwrap();
    assert_eq!(response.write(&mut [0; Response::MAX_LEN]), bytes);
    assert!(!server.is_awaiting_request());
    server.handle_sent(at(1));
    assert!(server.is_awaiting_request());
    assert_eq!(server.poll_response(), None);
}

fn registered() -> DeviceServer {
    let mut server = server();
    let (app_id, imei) = (APP_ID.parse().unwrap(), IMEI.parse().unwrap());
    let event = request(&mut server, register(IMEI));
    assert_eq!(event, Some(DeviceEvent::Register { app_id, imei }));
    assert_eq!((server.poll_response(), server.registered()), (None, None));
    server.accept();
    assert_eq!(server.registered(), Some(imei));
    respond(&mut server, b"\0\0");
    server
}

#[test]
fn every_request_has_a_response() {
    let mut server = registered();
    assert_eq!(receive(&mut server, b"\0\x02"), Some(DeviceEvent::DateTime));
    assert_eq!(server.poll_response(), None);
    server.provide_time(TIME.parse().unwrap());
    respond(&mut server, b"\x02\x002026-01-31 23:59:59");
    // With any client id.
    assert_eq!(receive(&mut server, b"\x05\x01"), Some(DeviceEvent::Heartbeat));
    respond(&mut server, b"\x01\0");
}

#[test]
fn malformed_request_is_answered_with_its_id_and_error() {
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
        let reason = Rejection::Malformed(error);
        assert_eq!(receive(&mut server, bytes), Some(DeviceEvent::Rejected { id, reason }));
        respond(&mut server, &[i8::cast_unsigned(id), 0xff]);
        assert_eq!(receive(&mut server, b"\0\x01"), Some(DeviceEvent::Heartbeat));
    }
}

#[test]
fn unregistered_device_gets_heartbeats_but_not_the_time() {
    let mut server = server();
    assert_eq!(receive(&mut server, b"\0\x01"), Some(DeviceEvent::Heartbeat));
    respond(&mut server, b"\x01\0");
    let event = receive(&mut server, b"\0\x02");
    assert_eq!(event, Some(DeviceEvent::Rejected { id: 2, reason: Rejection::NotRegistered }));
    respond(&mut server, b"\x02\xff");
}

#[test]
fn rejected_registration_has_no_effect() {
    let mut server = server();
    request(&mut server, register(IMEI));
    server.reject();
    assert_eq!(server.registered(), None);
    respond(&mut server, b"\0\xff");
    // The device may retry, also with another IMEI.
    request(&mut server, register(OTHER));
    server.accept();
    assert_eq!(server.registered(), Some(OTHER.parse().unwrap()));
    respond(&mut server, b"\0\0");
}

#[test]
fn second_imei_on_a_connection_is_rejected() {
    let mut server = registered();
    let event = request(&mut server, register(OTHER));
    assert_eq!(event, Some(DeviceEvent::Rejected { id: 0, reason: Rejection::OtherImei }));
    respond(&mut server, b"\0\xff");
    assert_eq!(server.registered(), Some(IMEI.parse().unwrap()));
    assert!(matches!(request(&mut server, register(IMEI)), Some(DeviceEvent::Register { .. })));
    server.accept();
    respond(&mut server, b"\0\0");
}

#[test]
fn server_without_a_clock_rejects_time_requests() {
    let mut server = registered();
    receive(&mut server, b"\0\x02");
    server.reject();
    respond(&mut server, b"\x02\xff");
}

#[test]
fn next_request_waits_for_the_response() {
    let mut server = registered();
    receive(&mut server, b"\0\x02");
    for state in 0..2 {
        assert!(!server.is_awaiting_request());
        assert_eq!(receive(&mut server, b"\0\x01"), None);
        if state == 0 {
            server.provide_time(TIME.parse().unwrap());
        }
    }
    respond(&mut server, b"\x02\x002026-01-31 23:59:59");
    // The chunks were not taken.
    assert_eq!(server.handle_chunk(b"\0", Remaining::More, at(1)), None);
    assert_eq!(receive(&mut server, b"\x01"), Some(DeviceEvent::Heartbeat));
}

#[test]
fn decisions_without_a_request_have_no_effect() {
    let mut server = server();
    server.accept();
    server.reject();
    server.provide_time(TIME.parse().unwrap());
    server.handle_sent(at(1));
    assert!(server.is_awaiting_request() && server.registered().is_none());
    request(&mut server, register(IMEI));
    server.provide_time(TIME.parse().unwrap());
    server.handle_sent(at(1));
    assert_eq!((server.poll_response(), server.is_awaiting_request()), (None, false));
    server.accept();
    server.reject();
    respond(&mut server, b"\0\0");
    receive(&mut server, b"\0\x02");
    server.accept();
    assert_eq!(server.poll_response(), None);
}

#[test]
fn silent_device_times_out_after_three_intervals() {
    let mut server = server();
    assert_eq!(server.poll_timeout(), Some(at(TIMEOUT)));
    server.handle_timeout(at(TIMEOUT - 1));
    assert_eq!(server.error(), None);
    server.handle_timeout(at(TIMEOUT));
    assert_eq!(server.error(), Some(DeviceError::Silent));
    assert_eq!(server.poll_timeout(), None);
    assert_eq!(receive(&mut server, b"\0\x01"), None);
    assert_eq!(server.poll_response(), None);
}

#[test]
fn any_whole_message_restarts_the_timeout() {
    let mut server = server();
    for (index, bytes) in [&b"\0\x01"[..], b"\0\x02", b"\0\x09", b""].into_iter().enumerate() {
        let now = (index as u64 + 1) * (TIMEOUT - 1);
        server.handle_timeout(at(now));
        server.handle_chunk(bytes, Remaining::End, at(now)).unwrap();
        server.handle_sent(at(now));
        assert_eq!(server.poll_timeout(), Some(at(now + TIMEOUT)));
    }
    let until = server.poll_timeout();
    server.handle_chunk(b"\0", Remaining::Bytes(1), at(8 * TIMEOUT));
    assert_eq!(server.poll_timeout(), until);
}

#[test]
fn timeout_restarts_when_the_response_is_sent() {
    for request in [&b"\0\x01"[..], b"\0\x09"] {
        let mut server = server();
        receive(&mut server, request);
        assert_eq!(server.poll_timeout(), None);
        server.handle_timeout(at(9 * TIMEOUT));
        assert_eq!(server.error(), None);
        server.handle_sent(at(10 * TIMEOUT));
        assert_eq!(server.poll_timeout(), Some(at(11 * TIMEOUT)));
    }
}

#[test]
fn request_may_arrive_in_any_chunks() {
    let mut buffer = [0; Request::MAX_LEN];
    let bytes = register(IMEI).write(&mut buffer);
    for cut in 0..bytes.len() {
        let mut server = server();
        assert_eq!(server.handle_chunk(&bytes[..cut], Remaining::More, at(1)), None);
        let event = server.handle_chunk(&bytes[cut..], Remaining::End, at(1));
        assert!(matches!(event, Some(DeviceEvent::Register { .. })), "{cut}");
    }
    // Of a message that is too long only its length is kept.
    let mut server = server();
    let bytes = [bytes, b"0"].concat();
    let reason = Rejection::Malformed(MessageError::Length);
    assert_eq!(receive(&mut server, &bytes), Some(DeviceEvent::Rejected { id: 0, reason }));
    server.handle_sent(at(1));
    for _ in 0..9 {
        assert_eq!(server.handle_chunk(&[1; 4096], Remaining::More, at(1)), None);
    }
    let event = server.handle_chunk(b"", Remaining::End, at(1));
    assert_eq!(event, Some(DeviceEvent::Rejected { id: 1, reason }));
}

#[test]
fn rejections_have_a_text() {
    for (rejection, text) in [
        (Rejection::Malformed(MessageError::Imei), "15 digits"),
        (Rejection::NotRegistered, "not registered"),
        (Rejection::OtherImei, "another IMEI"),
    ] {
        assert!(rejection.to_string().contains(text));
    }
}
