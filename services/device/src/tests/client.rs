//! The device's end.

use core::time::Duration;
use std::vec::Vec;

use super::*;
use countersign::Remaining;

const INTERVAL: u64 = 3_000;
const PATIENCE: u64 = 10_000;

fn client() -> DeviceClient {
    DeviceClient::new(APP_ID.parse().unwrap(), IMEI.parse().unwrap(), at(0))
}

/// What it sends at this moment.
fn sends(client: &mut DeviceClient, now: u64) -> Vec<Kind> {
    let mut kinds = Vec::new();
    while let Some(request) = client.poll_request(at(now)) {
        kinds.push(request.ask.kind());
        assert!(kinds.len() <= Kind::ALL.len(), "no end of {kinds:?}");
        client.handle_sent(at(now));
    }
    kinds
}

fn hears(client: &mut DeviceClient, bytes: &[u8], now: u64) -> Option<Response> {
    client.handle_part(bytes, Remaining::End, at(now))
}

const TIME_IS: &[u8] = b"\x02\x002026-01-31 23:59:59";

/// One whose registration was answered after a second, and the time right after.
fn registered() -> DeviceClient {
    let mut client = client();
    assert_eq!(sends(&mut client, 0), [Kind::Register]);
    assert_eq!(hears(&mut client, b"\0\0", 1_000), Some(Response::registered()));
    assert_eq!(sends(&mut client, 1_000), [Kind::DateTime]);
    let time = Response::date_time(TIME.parse().unwrap());
    assert_eq!(hears(&mut client, TIME_IS, 1_000), Some(time));
    client
}

#[test]
fn it_registers_first_then_asks_the_time_then_its_heart_beats() {
    let mut client = client();
    assert_eq!(client.poll_timeout(), Some(at(0)));
    assert_eq!(client.poll_request(at(0)), Some(register(IMEI)));
    client.handle_sent(at(0));
    assert_eq!(client.poll_request(at(9_000)), None);
    let mut client = registered();
    for beat in 1..4 {
        let due = 1_000 + beat * INTERVAL;
        assert_eq!(client.poll_timeout(), Some(at(due)));
        assert_eq!(client.poll_request(at(due - 1)), None);
        assert_eq!(sends(&mut client, due), [Kind::Heartbeat]);
        assert_eq!(hears(&mut client, b"\x01\0", due + 500), Some(Response::heartbeat()));
    }
    assert_eq!(client.error(), None);
}

#[test]
fn it_asks_the_time_as_soon_as_it_is_registered() {
    let mut client = client();
    sends(&mut client, 0);
    hears(&mut client, b"\0\0", 1_000);
    assert_eq!(client.poll_timeout(), Some(at(1_000)));
    assert_eq!(sends(&mut client, 1_000), [Kind::DateTime]);
}

#[test]
fn its_heart_beats_though_the_time_is_not_told() {
    let mut client = client();
    sends(&mut client, 0);
    hears(&mut client, b"\0\0", 0);
    assert_eq!(sends(&mut client, 1), [Kind::DateTime]);
    assert_eq!(sends(&mut client, INTERVAL), [Kind::Heartbeat]);
    assert_eq!(hears(&mut client, b"\x02\xff", INTERVAL), Some(Response::error(2)));
    assert_eq!(client.error(), None);
    assert_eq!(hears(&mut client, b"\x01\0", INTERVAL), Some(Response::heartbeat()));
}

#[test]
fn a_request_is_offered_until_it_is_sent() {
    let mut client = client();
    for now in [0, 5, 20_000] {
        assert_eq!(client.poll_request(at(now)), Some(register(IMEI)));
        // It waits for room, not for time.
        assert_eq!(client.poll_timeout(), None);
    }
    client.handle_sent(at(20_000));
    assert_eq!(client.poll_timeout(), Some(at(20_000 + PATIENCE)));
    // Nothing was offered, so nothing is sent.
    client.handle_sent(at(25_000));
    assert_eq!(client.poll_timeout(), Some(at(20_000 + PATIENCE)));
}

#[test]
fn a_heartbeat_waits_for_the_answer_to_the_last_one() {
    let mut client = registered();
    let due = 1_000 + INTERVAL;
    assert_eq!(sends(&mut client, due), [Kind::Heartbeat]);
    assert_eq!(sends(&mut client, due + INTERVAL), []);
    hears(&mut client, b"\x01\0", due + INTERVAL + 5);
    // It is overdue.
    assert_eq!(client.poll_timeout(), Some(at(due + INTERVAL)));
    assert_eq!(sends(&mut client, due + INTERVAL + 5), [Kind::Heartbeat]);
    assert_eq!(client.error(), None);
}

#[test]
fn an_answer_that_does_not_come_is_noticed_by_its_deadline() {
    let mut register = client();
    sends(&mut register, 7);
    let mut time = client();
    sends(&mut time, 0);
    hears(&mut time, b"\0\0", 0);
    sends(&mut time, 7);
    let mut heartbeat = registered();
    sends(&mut heartbeat, 7 + 1_000 + INTERVAL);
    for (mut client, kind, sent) in [
        (register, Kind::Register, 7),
        (time, Kind::DateTime, 7),
        (heartbeat, Kind::Heartbeat, 7 + 1_000 + INTERVAL),
    ] {
        client.handle_timeout(at(sent + PATIENCE - 1));
        assert_eq!(client.error(), None);
        client.handle_timeout(at(sent + PATIENCE));
        assert_eq!(client.error(), Some(DeviceError::NoAnswer(kind)));
        // That is final.
        assert_eq!(client.poll_timeout(), None);
        assert_eq!(client.poll_request(at(sent + 10 * PATIENCE)), None);
        assert_eq!(hears(&mut client, &[kind.id().cast_unsigned(), 0], sent), None);
        client.handle_timeout(at(sent + 10 * PATIENCE));
        assert_eq!(client.error(), Some(DeviceError::NoAnswer(kind)));
    }
}

#[test]
fn an_answer_that_nobody_asked_for_ends_it() {
    for (bytes, kind) in [
        (&b"\x01\0"[..], Kind::Heartbeat),
        (b"\x01\xff", Kind::Heartbeat),
        (TIME_IS, Kind::DateTime),
    ] {
        let mut client = client();
        sends(&mut client, 0);
        assert_eq!(hears(&mut client, bytes, 1), None);
        assert_eq!(client.error(), Some(DeviceError::Unasked(kind)));
        assert_eq!(client.poll_timeout(), None);
    }
    // Answered twice; and answered before it was sent.
    let mut client = registered();
    assert_eq!(hears(&mut client, b"\0\0", 2_000), None);
    assert_eq!(client.error(), Some(DeviceError::Unasked(Kind::Register)));
    let mut client = registered();
    client.poll_request(at(1_000 + INTERVAL)).unwrap();
    assert_eq!(hears(&mut client, b"\x01\0", 1_000 + INTERVAL), None);
    assert_eq!(client.error(), Some(DeviceError::Unasked(Kind::Heartbeat)));
    assert_eq!(client.poll_request(at(1_000 + INTERVAL)), None);
}

#[test]
fn what_is_no_answer_ends_it() {
    for (bytes, error) in [
        (&b""[..], MessageError::Length),
        (b"\0", MessageError::Length),
        (b"\x05\0", MessageError::Id(5)),
        (b"\xff\xff", MessageError::Id(-1)),
        (b"\x02\x002026-13-31 23:59:59", MessageError::DateTime),
    ] {
        let mut client = client();
        sends(&mut client, 0);
        assert_eq!(hears(&mut client, bytes, 1), None);
        assert_eq!(client.error(), Some(DeviceError::Malformed(error)));
    }
}

#[test]
fn a_refused_registration_or_heartbeat_is_told_and_ends_it() {
    for code in [-1, 1] {
        let mut refused = client();
        sends(&mut refused, 0);
        let answer = hears(&mut refused, &[0, i8::cast_unsigned(code)], 1).unwrap();
        assert_eq!((answer.id(), answer.code()), (0, code));
        assert_eq!(refused.error(), Some(DeviceError::Refused(Kind::Register)));
        assert_eq!(sends(&mut refused, 90_000), []);
        let mut refused = registered();
        sends(&mut refused, 1_000 + INTERVAL);
        hears(&mut refused, &[1, i8::cast_unsigned(code)], 5_000).unwrap();
        assert_eq!(refused.error(), Some(DeviceError::Refused(Kind::Heartbeat)));
    }
}

#[test]
fn an_answer_may_come_in_any_pieces() {
    let mut client = client();
    sends(&mut client, 0);
    hears(&mut client, b"\0\0", 0);
    sends(&mut client, 0);
    let (last, pieces) = TIME_IS.split_last().unwrap();
    for piece in pieces {
        assert_eq!(client.handle_part(&[*piece], Remaining::More, at(1)), None);
    }
    let time = client.handle_part(&[*last], Remaining::End, at(1)).unwrap();
    assert_eq!(time.time(), Some(TIME.parse().unwrap()));
    // One that is too long is found so at its end, however long it was.
    let mut late = client.clone();
    sends(&mut late, INTERVAL);
    assert_eq!(hears(&mut late, &[TIME_IS, b"0"].concat(), INTERVAL), None);
    assert_eq!(late.error(), Some(DeviceError::Malformed(MessageError::Length)));
    sends(&mut client, INTERVAL);
    assert_eq!(client.handle_part(&[1; 4096], Remaining::Bytes(4096), at(INTERVAL)), None);
    assert_eq!(client.error(), None);
    assert_eq!(client.handle_part(&[1; 4096], Remaining::End, at(INTERVAL)), None);
    assert_eq!(client.error(), Some(DeviceError::Malformed(MessageError::Length)));
}

#[test]
fn its_times_are_the_callers() {
    let mut client = client()
        .with_interval(Duration::from_millis(40))
        .with_answer_timeout(Duration::from_millis(90));
    sends(&mut client, 0);
    assert_eq!(client.poll_timeout(), Some(at(90)));
    hears(&mut client, b"\0\0", 10);
    sends(&mut client, 10);
    hears(&mut client, TIME_IS, 10);
    assert_eq!(client.poll_timeout(), Some(at(50)));
}
