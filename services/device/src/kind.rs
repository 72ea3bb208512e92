//! The kinds of requests.

use core::fmt;

use crate::message_error::MessageError;

/// The kind of a request, and of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The device registers.
    Register = 0,
    /// The device shows that it is alive.
    Heartbeat = 1,
    /// The device requests the server's local time.
    DateTime = 2,
}

impl Kind {
    /// Every kind, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Register, Self::Heartbeat, Self::DateTime];

    /// The id on the wire.
    #[must_use]
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The kind with this id.
    ///
    /// # Errors
    /// [`MessageError::Id`]: no kind has this id.
    pub fn from_id(id: i8) -> Result<Self, MessageError> {
        Self::ALL.into_iter().find(|kind| kind.id() == id).ok_or(MessageError::Id(id))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Register => "registration",
            Self::Heartbeat => "a heartbeat",
            Self::DateTime => "the time",
        })
    }
}
