//! The layout of messages.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

#[track_caller]
fn check_request(request: Request, bytes: &[u8]) {
    assert_eq!(request.write(&mut [0xee; Request::MAX_LEN]), bytes);
    assert_eq!(Request::parse(bytes), Ok(request));
}

#[track_caller]
fn check_response(response: Response, bytes: &[u8]) {
    assert_eq!(response.write(&mut [0xee; Response::MAX_LEN]), bytes);
    assert_eq!(Response::parse(bytes), Ok(response));
}

#[test]
fn requests_have_the_documented_layout() {
    check_request(register(IMEI), &[b"\0\0", APP_ID.as_bytes(), IMEI.as_bytes()].concat());
    check_request(Request { client_id: 0, body: RequestBody::Heartbeat }, b"\0\x01");
    check_request(Request { client_id: -7, body: RequestBody::DateTime }, b"\xf9\x02");
    assert_eq!(Request::MAX_LEN, 53);
}

#[test]
fn responses_have_the_documented_layout() {
    check_response(Response::registered(), b"\0\0");
    check_response(Response::heartbeat(), b"\x01\0");
    let time = TIME.parse().unwrap();
    check_response(Response::date_time(time), b"\x02\x002026-01-31 23:59:59");
    assert_eq!(Response::MAX_LEN, 21);
    for (kind, bytes) in Kind::ALL.into_iter().zip([b"\0\xff", b"\x01\xff", b"\x02\xff"]) {
        check_response(Response::error(kind.id()), bytes);
    }
    assert_eq!(Response::error(-1).write(&mut [0; Response::MAX_LEN]), b"\xff\xff");
    let other = Response::parse(b"\x01\x05").unwrap();
    assert_eq!((other.id(), other.code(), other.time()), (1, 5, None));
    let response = Response::date_time(time);
    assert_eq!((response.id(), response.code(), response.time()), (2, 0, Some(time)));
}

#[test]
fn message_length_must_match_its_id() {
    let registration = [b"\0\0", APP_ID.as_bytes(), IMEI.as_bytes()].concat();
    let long = [&registration[..], b"0"].concat();
    for cut in 0..registration.len() {
        assert_eq!(Request::parse(&registration[..cut]), Err(MessageError::Length), "{cut}");
    }
    for bytes in [&long[..], b"\0\x01\0", b"\0\x02\0"] {
        assert_eq!(Request::parse(bytes), Err(MessageError::Length), "{bytes:?}");
    }
    let time = b"\x02\x002026-01-31 23:59:59";
    for cut in 0..time.len() {
        assert_eq!(Response::parse(&time[..cut]), Err(MessageError::Length), "{cut}");
    }
    let long = [&time[..], b"0"].concat();
    let error = b"\x02\xff2026-01-31 23:59:59";
    for bytes in [&long[..], error, b"\0\0\0", b"\x01\0\0", b"\x01\xff\0", b"\x02\xff\0"] {
        assert_eq!(Response::parse(bytes), Err(MessageError::Length), "{bytes:?}");
    }
}

#[test]
fn unknown_id_is_reported_whatever_follows() {
    for id in (i8::MIN..=i8::MAX).filter(|id| !(0..=2).contains(id)) {
        for rest in [&b""[..], b"anything"] {
            let id_byte = [id.cast_unsigned()];
            let request = [b"\0", &id_byte[..], rest].concat();
            assert_eq!(Request::parse(&request), Err(MessageError::Id(id)));
            let response = [&id_byte[..], b"\0", rest].concat();
            assert_eq!(Response::parse(&response), Err(MessageError::Id(id)));
        }
    }
}

#[test]
fn registration_fields_are_validated() {
    let parse = |app_id: &[u8], imei: &[u8]| Request::parse(&[b"\0\0", app_id, imei].concat());
    let (app_id, imei) = (APP_ID.as_bytes(), IMEI.as_bytes());
    for at in 0..app_id.len() {
        let mut bad = app_id.to_vec();
        for byte in [0, 0x1f, 0x7f, 0x80, 0xff] {
            bad[at] = byte;
            assert_eq!(parse(&bad, imei), Err(MessageError::AppId));
        }
        for byte in [b' ', b'~', b'"'] {
            bad[at] = byte;
            assert!(parse(&bad, imei).is_ok());
        }
    }
    for at in 0..imei.len() {
        let mut bad = imei.to_vec();
        for byte in [b'0' - 1, b'9' + 1, b' ', 0, 0xb0] {
            bad[at] = byte;
            assert_eq!(parse(app_id, &bad), Err(MessageError::Imei));
        }
        for byte in [b'0', b'9'] {
            bad[at] = byte;
            assert!(parse(app_id, &bad).is_ok());
        }
    }
}

#[test]
fn date_time_fields_have_ranges() {
    let good = [
        TIME,
        "0000-01-01 00:00:00",
        "9999-12-31 23:59:60",
        "2026-09-19 19:09:09",
        "2026-10-20 20:10:10",
        "2026-11-09 09:00:59",
    ];
    for text in good {
        assert_eq!(text.parse::<DateTime>().unwrap().as_str(), text);
    }
    let bad = [
        "",
        "2026-01-31 23:59:5",
        "2026-01-31 23:59:590",
        "2026-00-31 23:59:59",
        "2026-13-31 23:59:59",
        "2026-20-31 23:59:59",
        "2026-01-00 23:59:59",
        "2026-01-32 23:59:59",
        "2026-01-40 23:59:59",
        "2026-01-31 24:59:59",
        "2026-01-31 30:59:59",
        "2026-01-31 23:60:59",
        "2026-01-31 23:59:61",
        "2026-01-31 23:59:70",
    ];
    for text in bad {
        assert_eq!(text.parse::<DateTime>(), Err(MessageError::DateTime), "{text}");
    }
    for at in 0..TIME.len() {
        for byte in [b'/', b':' + 1, b'x', 0x80] {
            let mut bytes = TIME.as_bytes().to_vec();
            bytes[at] = byte;
            assert_eq!(DateTime::from_bytes(&bytes), Err(MessageError::DateTime), "{at} {byte}");
        }
    }
    let response = b"\x02\x002026-13-31 23:59:59";
    assert_eq!(Response::parse(response), Err(MessageError::DateTime));
}

#[test]
fn texts_survive_a_round_trip() {
    let app_id: AppId = APP_ID.parse().unwrap();
    let imei: Imei = IMEI.parse().unwrap();
    assert_eq!((app_id.to_string(), app_id.as_str()), (APP_ID.into(), APP_ID));
    assert_eq!(
        (imei.to_string(), imei.as_bytes()),
        (IMEI.into(), IMEI.as_bytes().try_into().unwrap())
    );
    assert_eq!(format!("{imei:?} {imei:>17}|"), format!("\"{IMEI}\"   {IMEI}|"));
    assert_eq!("86985803072069é".parse::<Imei>(), Err(MessageError::Imei));
    for (wrong, error) in [
        (APP_ID[1..].parse::<AppId>().err(), MessageError::AppId),
        (format!("{APP_ID}0").parse::<AppId>().err(), MessageError::AppId),
        (IMEI[1..].parse::<Imei>().err(), MessageError::Imei),
        (format!("{IMEI}0").parse::<Imei>().err(), MessageError::Imei),
    ] {
        assert_eq!(wrong, Some(error));
    }
}

#[test]
fn kinds_and_errors_have_ids_and_texts() {
    assert_eq!(Kind::ALL.map(Kind::id), [0, 1, 2]);
    assert_eq!(Kind::ALL.map(|kind| Kind::from_id(kind.id())), Kind::ALL.map(Ok));
    assert_eq!(Kind::ALL.map(|kind| kind.to_string()), ["registration", "a heartbeat", "the time"]);
    let errors = [
        MessageError::Length,
        MessageError::Id(-3),
        MessageError::AppId,
        MessageError::Imei,
        MessageError::DateTime,
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (text, expected) in texts.iter().zip(["longer or shorter", "-3", "36", "15 digits", "YYYY"])
    {
        assert!(text.contains(expected), "{text}");
    }
}
