//! Identifiers of devices.

use crate::message_error::MessageError;
use crate::text::text;

text!(
    /// Identifies a device: 15 digits.
    ///
    /// It proves nothing: a peer that passes the handshake can register with any IMEI.
    Imei,
    15,
    |bytes| bytes.iter().all(u8::is_ascii_digit)
);
