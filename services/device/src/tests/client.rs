//! The device's side.

use core::time::Duration;
use std::vec::Vec;

use super::*;
use countersign::Remaining;

const INTERVAL: u64 = 3_000;
const TIMEOUT: u64 = 10_000;

fn client() -> DeviceClient {
    DeviceClient::new(APP_ID.parse().unwrap(), IMEI.parse().unwrap(), at(0))
}

/// Sends the requests that are due; returns their kinds.
fn send(client: &mut DeviceClient, now: u64) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while let Some(request) = client.poll_request(at(now)) {
        kinds.push(request.body.kind());
        assert!(kinds.len() <= Kind::ALL.len(), "endless requests: {kinds:?}");
        client.handle_sent(at(now));
    }
    kinds
}

fn receive(client: &mut DeviceClient, bytes: &[u8], now: u64) -> Option<Response> {
    client.handle_chunk(bytes, Remaining::End, at(now))
}

const TIME_IS: &[u8] = b"\x02\x002026-01-31 23:59:59";

/// A client whose registration was confirmed after a second, and its request for the time at once.
fn registered() -> DeviceClient {
    let mut client = client();
    assert_eq!(send(&mut client, 0), [Kind::Register]);
    assert_eq!(receive(&mut client, b"\0\0", 1_000), Some(Response::registered()));
    assert_eq!(send(&mut client, 1_000), [Kind::DateTime]);
    let time = Response::date_time(TIME.parse().unwrap());
    assert_eq!(receive(&mut client, TIME_IS, 1_000), Some(time));
    client
}

#[test]
fn client_registers_then_requests_time_then_sends_heartbeats() {
    let mut client = client();
    assert_eq!(client.poll_timeout(), Some(at(0)));
    assert_eq!(client.poll_request(at(0)), Some(register(IMEI)));
    client.handle_sent(at(0));
    assert_eq!(client.poll_request(at(9_000)), None);
    let mut client = registered();
    for heartbeat in 1..4 {
        let due = 1_000 + heartbeat * INTERVAL;
        assert_eq!(client.poll_timeout(), Some(at(due)));
        assert_eq!(client.poll_request(at(due - 1)), None);
        assert_eq!(send(&mut client, due), [Kind::Heartbeat]);
        assert_eq!(receive(&mut client, b"\x01\0", due + 500), Some(Response::heartbeat()));
    }
    assert_eq!(client.error(), None);
}

#[test]
fn time_is_requested_at_once_after_registration() {
    let mut client = client();
    send(&mut client, 0);
    receive(&mut client, b"\0\0", 1_000);
    assert_eq!(client.poll_timeout(), Some(at(1_000)));
    assert_eq!(send(&mut client, 1_000), [Kind::DateTime]);
}

#[test]
fn heartbeats_do_not_depend_on_the_time_response() {
    let mut client = client();
    send(&mut client, 0);
    receive(&mut client, b"\0\0", 0);
    assert_eq!(send(&mut client, 1), [Kind::DateTime]);
    assert_eq!(send(&mut client, INTERVAL), [Kind::Heartbeat]);
    assert_eq!(receive(&mut client, b"\x02\xff", INTERVAL), Some(Response::error(2)));
    assert_eq!(client.error(), None);
    assert_eq!(receive(&mut client, b"\x01\0", INTERVAL), Some(Response::heartbeat()));
}

#[test]
fn request_is_returned_until_it_is_sent() {
    let mut client = client();
    for now in [0, 5, 20_000] {
        assert_eq!(client.poll_request(at(now)), Some(register(IMEI)));
        // It waits for room, so there is no deadline.
        assert_eq!(client.poll_timeout(), None);
    }
    client.handle_sent(at(20_000));
    assert_eq!(client.poll_timeout(), Some(at(20_000 + TIMEOUT)));
    // No request was returned, so none counts as sent.
    client.handle_sent(at(25_000));
    assert_eq!(client.poll_timeout(), Some(at(20_000 + TIMEOUT)));
}

#[test]
fn heartbeat_waits_for_the_response_to_the_last_one() {
    let mut client = registered();
    let due = 1_000 + INTERVAL;
    assert_eq!(send(&mut client, due), [Kind::Heartbeat]);
    assert_eq!(send(&mut client, due + INTERVAL), []);
    receive(&mut client, b"\x01\0", due + INTERVAL + 5);
    // The next heartbeat is overdue.
    assert_eq!(client.poll_timeout(), Some(at(due + INTERVAL)));
    assert_eq!(send(&mut client, due + INTERVAL + 5), [Kind::Heartbeat]);
    assert_eq!(client.error(), None);
}

#[test]
fn missing_response_is_an_error_at_its_deadline() {
    let mut register = client();
    send(&mut register, 7);
    let mut time = client();
    send(&mut time, 0);
    receive(&mut time, b"\0\0", 0);
    send(&mut time, 7);
    let mut heartbeat = registered();
    send(&mut heartbeat, 7 + 1_000 + INTERVAL);
    for (mut client, kind, sent) in [
        (register, Kind::Register, 7),
        (time, Kind::DateTime, 7),
        (heartbeat, Kind::Heartbeat, 7 + 1_000 + INTERVAL),
    ] {
        client.handle_timeout(at(sent + TIMEOUT - 1));
        assert_eq!(client.error(), None);
        client.handle_timeout(at(sent + TIMEOUT));
        assert_eq!(client.error(), Some(DeviceError::NoResponse(kind)));
        // The error is final.
        assert_eq!(client.poll_timeout(), None);
        assert_eq!(client.poll_request(at(sent + 10 * TIMEOUT)), None);
        assert_eq!(receive(&mut client, &[kind.id().cast_unsigned(), 0], sent), None);
        client.handle_timeout(at(sent + 10 * TIMEOUT));
        assert_eq!(client.error(), Some(DeviceError::NoResponse(kind)));
    }
}

#[test]
fn response_without_a_request_is_an_error() {
    for (bytes, kind) in [
        (&b"\x01\0"[..], Kind::Heartbeat),
        (b"\x01\xff", Kind::Heartbeat),
        (TIME_IS, Kind::DateTime),
    ] {
        let mut client = client();
        send(&mut client, 0);
        assert_eq!(receive(&mut client, bytes, 1), None);
        assert_eq!(client.error(), Some(DeviceError::Unexpected(kind)));
        assert_eq!(client.poll_timeout(), None);
    }
    // A second response; and a response before the request was sent.
    let mut client = registered();
    assert_eq!(receive(&mut client, b"\0\0", 2_000), None);
    assert_eq!(client.error(), Some(DeviceError::Unexpected(Kind::Register)));
    let mut client = registered();
    client.poll_request(at(1_000 + INTERVAL)).unwrap();
    assert_eq!(receive(&mut client, b"\x01\0", 1_000 + INTERVAL), None);
    assert_eq!(client.error(), Some(DeviceError::Unexpected(Kind::Heartbeat)));
    assert_eq!(client.poll_request(at(1_000 + INTERVAL)), None);
}

#[test]
fn malformed_response_is_an_error() {
    for (bytes, error) in [
        (&b""[..], MessageError::Length),
        (b"\0", MessageError::Length),
        (b"\x05\0", MessageError::Id(5)),
        (b"\xff\xff", MessageError::Id(-1)),
        (b"\x02\x002026-13-31 23:59:59", MessageError::DateTime),
    ] {
        let mut client = client();
        send(&mut client, 0);
        assert_eq!(receive(&mut client, bytes, 1), None);
        assert_eq!(client.error(), Some(DeviceError::Malformed(error)));
    }
}

#[test]
fn refused_registration_or_heartbeat_is_an_error() {
    for code in [-1, 1] {
        let mut refused = client();
        send(&mut refused, 0);
        let response = receive(&mut refused, &[0, i8::cast_unsigned(code)], 1).unwrap();
        assert_eq!((response.id(), response.code()), (0, code));
        assert_eq!(refused.error(), Some(DeviceError::Refused(Kind::Register)));
        assert_eq!(send(&mut refused, 90_000), []);
        let mut refused = registered();
        send(&mut refused, 1_000 + INTERVAL);
        receive(&mut refused, &[1, i8::cast_unsigned(code)], 5_000).unwrap();
        assert_eq!(refused.error(), Some(DeviceError::Refused(Kind::Heartbeat)));
    }
}

#[test]
fn response_may_arrive_in_any_chunks() {
    let mut client = client();
    send(&mut client, 0);
    receive(&mut client, b"\0\0", 0);
    send(&mut client, 0);
    let (last, pieces) = TIME_IS.split_last().unwrap();
    for piece in pieces {
        assert_eq!(client.handle_chunk(&[*piece], Remaining::More, at(1)), None);
    }
    let time = client.handle_chunk(&[*last], Remaining::End, at(1)).unwrap();
    assert_eq!(time.time(), Some(TIME.parse().unwrap()));
    // A response that is too long is an error at its end, however long it is.
    let mut late = client.clone();
    send(&mut late, INTERVAL);
    assert_eq!(receive(&mut late, &[TIME_IS, b"0"].concat(), INTERVAL), None);
    assert_eq!(late.error(), Some(DeviceError::Malformed(MessageError::Length)));
    send(&mut client, INTERVAL);
    assert_eq!(client.handle_chunk(&[1; 4096], Remaining::Bytes(4096), at(INTERVAL)), None);
    assert_eq!(client.error(), None);
    assert_eq!(client.handle_chunk(&[1; 4096], Remaining::End, at(INTERVAL)), None);
    assert_eq!(client.error(), Some(DeviceError::Malformed(MessageError::Length)));
}

#[test]
fn interval_and_timeout_are_configurable() {
    let mut client = client()
        .with_interval(Duration::from_millis(40))
        .with_response_timeout(Duration::from_millis(90));
    send(&mut client, 0);
    assert_eq!(client.poll_timeout(), Some(at(90)));
    receive(&mut client, b"\0\0", 10);
    send(&mut client, 10);
    receive(&mut client, TIME_IS, 10);
    assert_eq!(client.poll_timeout(), Some(at(50)));
}
