//! Why bytes are not a valid message.

use core::fmt;

/// Why bytes are not a valid message, or a text is not a valid field of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageError {
    /// The length does not match the id.
    Length,
    /// No message has this id.
    Id(i8),
    /// Not a valid [`AppId`](crate::AppId).
    AppId,
    /// Not a valid [`Imei`](crate::Imei).
    Imei,
    /// Not a valid [`DateTime`](crate::DateTime).
    DateTime,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("the message is longer or shorter than its id requires"),
            Self::Id(id) => write!(f, "no message has the id {id}"),
            Self::AppId => f.write_str("an app id has 36 printable characters of ASCII"),
            Self::Imei => f.write_str("an IMEI has 15 digits"),
            Self::DateTime => f.write_str("a date and time is YYYY-MM-DD HH:MM:SS"),
        }
    }
}

impl core::error::Error for MessageError {}
