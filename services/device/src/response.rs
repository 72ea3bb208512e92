//! Responses of the server (docs/PROTOCOL.md, section "device").

use crate::date_time::DateTime;
use crate::kind::Kind;
use crate::message_error::MessageError;

/// A response of the server: `i8` id, `i8` error code, and the time if it was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    id: i8,
    code: i8,
    time: Option<DateTime>,
}

impl Response {
    /// The error code that [`error`](Self::error) sends.
    pub const ERROR: i8 = -1;

    /// The id in the response to a message that is too short to have one.
    pub const NO_ID: i8 = -1;

    /// Length in bytes of the longest response, which has the time.
    pub const MAX_LEN: usize = 2 + DateTime::LEN;

    /// Confirms a registration.
    #[must_use]
    pub const fn registered() -> Self {
        Self { id: Kind::Register.id(), code: 0, time: None }
    }

    /// Confirms a heartbeat.
    #[must_use]
    pub const fn heartbeat() -> Self {
        Self { id: Kind::Heartbeat.id(), code: 0, time: None }
    }

    /// Returns `time` to the device.
    #[must_use]
    pub const fn date_time(time: DateTime) -> Self {
        Self { id: Kind::DateTime.id(), code: 0, time: Some(time) }
    }

    /// Reports that the request with this id failed.
    #[must_use]
    pub const fn error(id: i8) -> Self {
        Self { id, code: Self::ERROR, time: None }
    }

    /// The id of the request.
    #[must_use]
    pub const fn id(&self) -> i8 {
        self.id
    }

    /// The kind of the request.
    ///
    /// # Errors
    /// [`MessageError::Id`]: no kind has this id.
    pub fn kind(&self) -> Result<Kind, MessageError> {
        Kind::from_id(self.id)
    }

    /// The error code; 0 for success.
    #[must_use]
    pub const fn code(&self) -> i8 {
        self.code
    }

    /// The time, in a successful response to [`Kind::DateTime`].
    #[must_use]
    pub const fn time(&self) -> Option<DateTime> {
        self.time
    }

    /// Parses a whole message. A response with an error code has no further fields.
    ///
    /// # Errors
    /// [`MessageError::Length`], [`MessageError::Id`], [`MessageError::DateTime`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let [id, code, rest @ ..] = bytes else { return Err(MessageError::Length) };
        let (id, code) = (id.cast_signed(), code.cast_signed());
        let time = match (Kind::from_id(id)?, code, rest) {
            (Kind::DateTime, 0, rest) if rest.len() == DateTime::LEN => {
                Some(DateTime::from_bytes(rest)?)
            }
            (Kind::DateTime, 0, _) => return Err(MessageError::Length),
            (_, _, []) => None,
            _ => return Err(MessageError::Length),
        };
        Ok(Self { id, code, time })
    }

    /// Writes the response to the front of `to` and returns the written bytes.
    pub fn write<'a>(&self, to: &'a mut [u8; Self::MAX_LEN]) -> &'a [u8] {
        to[0] = self.id.cast_unsigned();
        to[1] = self.code.cast_unsigned();
        match &self.time {
            Some(time) => {
                to[2..].copy_from_slice(time.as_bytes());
                to
            }
            None => &to[..2],
        }
    }
}
