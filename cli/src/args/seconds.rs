//! Durations in seconds, as option values.

use std::time::Duration;

/// Parses seconds, with or without a fraction.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = number(text)?;
    if (0.001..=1e9).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be from 0.001 to 1000000000 seconds".to_owned())
    }
}

/// Parses the heartbeat interval of a session, which is in whole milliseconds; 0 means none.
pub(super) fn session_heartbeat(text: &str) -> Result<Duration, String> {
    let seconds = number(text)?;
    if seconds == 0.0 || (1.0..=3600.0).contains(&seconds) {
        Ok(Duration::from_millis((seconds * 1e3) as u64))
    } else {
        Err("must be 0, or from 1 to 3600 seconds".to_owned())
    }
}

/// Parses the heartbeat interval of a device. With a shorter one, a connection would never be quiet long
/// enough to be stopped in order.
pub(super) fn device_heartbeat(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if interval < Duration::from_millis(200) {
        Err("must be at least 0.2 seconds".to_owned())
    } else {
        Ok(interval)
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "not a number of seconds".to_owned())
}
