//! The device protocol.

mod client;
mod message;
mod server;

use super::*;
use countersign::Instant;

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const IMEI: &str = "869858030720693";
const TIME: &str = "2026-01-31 23:59:59";

/// `millis` milliseconds after the epoch.
fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn register(imei: &str) -> Request {
    let body =
        RequestBody::Register { app_id: APP_ID.parse().unwrap(), imei: imei.parse().unwrap() };
    Request { client_id: 0, body }
}

#[test]
fn every_error_has_a_code_and_a_text() {
    use std::collections::BTreeSet;
    use std::string::ToString;
    let all = [
        DeviceError::Malformed(MessageError::Length),
        DeviceError::Unexpected(Kind::Register),
        DeviceError::Refused(Kind::Heartbeat),
        DeviceError::NoResponse(Kind::DateTime),
        DeviceError::Silent,
    ];
    let codes: BTreeSet<_> = all.iter().map(|error| error.code()).collect();
    let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!((codes.len(), texts.len()), (all.len(), all.len()));
    let plain = |code: &&str| code.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(codes.iter().all(plain) && !codes.contains(""));
    assert!(DeviceError::NoResponse(Kind::DateTime).to_string().contains("for the time"));
    assert!(DeviceError::Malformed(MessageError::Id(7)).to_string().contains("the id 7"));
}
