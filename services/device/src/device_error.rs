//! Why a device's connection has failed.

use core::fmt;

use crate::kind::Kind;
use crate::message_error::MessageError;

/// Why the device protocol has failed on a connection. Final for that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceError {
    /// The server sent a message that is not a response.
    Malformed(MessageError),
    /// The server sent a response without a request.
    Unexpected(Kind),
    /// The server responded with an error code.
    Refused(Kind),
    /// The server did not respond in time.
    NoResponse(Kind),
    /// The device was silent for three intervals.
    Silent,
}

impl DeviceError {
    /// One word for logs and metrics. It does not change between versions.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-response",
            Self::Unexpected(_) => "unasked-response",
            Self::Refused(_) => "request-refused",
            Self::NoResponse(_) => "no-answer",
            Self::Silent => "device-silent",
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(
                f,
                "the server sent a message that is not a response: {error}: check that it serves devices, and that both sides use the same scheme"
            ),
            Self::Unexpected(kind) => {
                write!(f, "the server responded to a request for {kind} that was not sent")
            }
            Self::Refused(kind) => {
                write!(f, "the server refused a request for {kind}: check its log")
            }
            Self::NoResponse(kind) => write!(
                f,
                "the server did not respond to a request for {kind} in time: check the server and the network"
            ),
            Self::Silent => f.write_str(
                "the device was silent for three intervals: check the device and the network, and that its interval is not longer than the server's",
            ),
        }
    }
}

impl core::error::Error for DeviceError {}
