//! Text forms of the list of devices.

use std::fmt::{self, Write};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::device_entry::DeviceEntry;

/// The format of a [`DateTime`](crate::DateTime).
const LOCAL: &str = "%Y-%m-%d %H:%M:%S";
const UTC: &str = "%Y-%m-%dT%H:%M:%SZ";

/// `time` in the time zone of this machine, as `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn local(time: SystemTime) -> Option<String> {
    let zoned = Timestamp::try_from(time).ok()?.to_zoned(TimeZone::system());
    Some(zoned.strftime(LOCAL).to_string())
}

fn utc(time: SystemTime) -> Option<String> {
    Some(Timestamp::try_from(time).ok()?.strftime(UTC).to_string())
}

pub(crate) fn table(devices: &[DeviceEntry]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 8]| {
        let [imei, state, since, heartbeat, times, app_id, name, peer] = cells;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{imei:15}  {state:5}  {since:19}  {heartbeat:19}  {times:>5}  {app_id:36}  {name:15}  {peer}"
        );
    };
    line(["IMEI", "STATE", "SINCE", "HEARTBEAT", "TIMES", "APP ID", "NAME", "PEER"]);
    for device in devices {
        let since = local(device.registered_at).unwrap_or_default();
        let heartbeat = device.last_heartbeat.and_then(local).unwrap_or_else(|| "-".into());
        line([
            device.imei.as_str(),
            if device.connected { "here" } else { "gone" },
            &since,
            &heartbeat,
            &device.registrations.to_string(),
            device.app_id.as_str(),
            device.name.as_ref().map_or("-", |name| name.as_str()),
            &device.addr.to_string(),
        ]);
    }
    text
}

pub(crate) fn json(devices: &[DeviceEntry]) -> String {
    let mut text = String::from("[");
    for (index, device) in devices.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(
            text,
            r#"{separator}{{"imei":{},"connected":{},"since":{},"heartbeat":{},"times":{},"app_id":{},"name":{},"peer":{}}}"#,
            Json(Some(device.imei.as_str())),
            device.connected,
            Json(utc(device.registered_at).as_deref()),
            Json(device.last_heartbeat.and_then(utc).as_deref()),
            device.registrations,
            Json(Some(device.app_id.as_str())),
            Json(device.name.as_ref().map(countersign::Text::as_str)),
            Json(Some(&device.addr.to_string())),
        );
    }
    text + "]\n"
}

/// A JSON string, or null.
struct Json<'a>(Option<&'a str>);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else { return f.write_str("null") };
        f.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use countersign_host::PeerAddr;

    fn entries() -> Vec<DeviceEntry> {
        let at =
            |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
        let entry = DeviceEntry {
            imei: "869858030720693".parse().unwrap(),
            app_id: r#"quotes " and \ may be in it, 36 long"#.parse().unwrap(),
            addr: PeerAddr::Tcp("192.0.2.7:51324".parse().unwrap()),
            name: Some("dev\"ice".parse().unwrap()),
            connected: true,
            registered_at: at(0),
            last_heartbeat: Some(at(59)),
            registrations: 7,
        };
        let other = DeviceEntry {
            name: None,
            addr: PeerAddr::Unix,
            last_heartbeat: None,
            connected: false,
            ..entry.clone()
        };
        vec![entry, other]
    }

    #[test]
    fn json_is_one_escaped_line() {
        assert_eq!(json(&[]), "[]\n");
        let app_id = r#""app_id":"quotes \" and \\ may be in it, 36 long""#;
        let first = format!(
            r#"{{"imei":"869858030720693","connected":true,"since":"1970-01-01T00:00:00Z","heartbeat":"1970-01-01T00:00:59Z","times":7,{app_id},"name":"dev\"ice","peer":"192.0.2.7:51324"}}"#
        );
        let second = format!(
            r#"{{"imei":"869858030720693","connected":false,"since":"1970-01-01T00:00:00Z","heartbeat":null,"times":7,{app_id},"name":null,"peer":"unix"}}"#
        );
        assert_eq!(json(&entries()), format!("[{first},{second}]\n"));
        assert_eq!(Json(Some("a\n\x1f\u{7f}é")).to_string(), "\"a\\u000a\\u001f\u{7f}é\"");
    }

    #[test]
    fn table_has_a_heading_and_a_line_per_device() {
        let text = table(&entries());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = |title: &str| lines[0].find(title).unwrap();
        for (title, first, second) in [
            ("IMEI", "869858030720693  ", "869858030720693  "),
            ("STATE", "here ", "gone "),
            ("TIMES", "    7  ", "    7  "),
            ("APP ID", "quotes \"", "quotes \""),
            ("NAME", "dev\"ice ", "- "),
            ("PEER", "192.0.2.7:51324", "unix"),
        ] {
            assert!(lines[1][column(title)..].starts_with(first), "{title}: {text}");
            assert!(lines[2][column(title)..].starts_with(second), "{title}: {text}");
        }
        // The format does not depend on the time zone.
        let heartbeat = &lines[1][column("HEARTBEAT")..][..19];
        let time: crate::DateTime = heartbeat.parse().unwrap();
        assert!(
            time.as_str().ends_with(":59") && lines[2][column("HEARTBEAT")..].starts_with("- ")
        );
    }
}
