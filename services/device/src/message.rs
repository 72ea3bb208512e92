//! Requests and responses, to the byte (docs/PROTOCOL.md, "device").

use core::fmt;
use core::str::FromStr;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The device says who it is.
    Register = 0,
    /// It is still there.
    Heartbeat = 1,
    /// It asks for the server's local time.
    DateTime = 2,
}

impl Kind {
    /// Every kind, in the order of their ids.
    pub const ALL: [Self; 3] = [Self::Register, Self::Heartbeat, Self::DateTime];

    /// As messages have it.
    #[must_use]
    pub const fn id(self) -> i8 {
        self as i8
    }

    /// The kind of this id.
    ///
    /// # Errors
    /// [`MessageError::Id`]: there is none.
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

/// Why bytes are no message, or a text is none of what messages are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not as long as its id says.
    Length,
    /// No message has this id.
    Id(i8),
    /// It is no [`AppId`].
    AppId,
    /// It is no [`Imei`].
    Imei,
    /// It is no [`DateTime`].
    DateTime,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("the message is longer or shorter than its id says"),
            Self::Id(id) => write!(f, "no message has the id {id}"),
            Self::AppId => f.write_str("an app id has 36 printable characters of ASCII"),
            Self::Imei => f.write_str("an IMEI has 15 digits"),
            Self::DateTime => f.write_str("a date and time is YYYY-MM-DD HH:MM:SS"),
        }
    }
}

impl core::error::Error for MessageError {}

/// A text of so many bytes of ASCII that `$valid` admits.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $len:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// It from its bytes.
            ///
            /// # Errors
            #[doc = concat!("[`MessageError::", stringify!($name), "`]: there are more or fewer, or others.")]
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
                let valid: fn(&[u8; $len]) -> bool = $valid;
                bytes.try_into().ok().filter(valid).map(Self).ok_or(MessageError::$name)
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// It as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // It is ASCII, so the empty one is never seen.
                core::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = MessageError;

            fn from_str(text: &str) -> Result<Self, MessageError> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

text!(
    /// Which application a device runs: 36 printable characters of ASCII, as a UUID has.
    AppId,
    36,
    |bytes| bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
);

text!(
    /// Which device it is: 15 digits. It proves nothing; whoever may speak to the server can name any.
    Imei,
    15,
    |bytes| bytes.iter().all(u8::is_ascii_digit)
);

text!(
    /// A local date and time, `YYYY-MM-DD HH:MM:SS`. Each number is within its bounds, though no
    /// calendar need have the day; there may be a 61st second.
    DateTime,
    19,
    |bytes| {
        const SHAPE: &[u8; 19] = b"0000-00-00 00:00:00";
        let shaped = bytes.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
        let number = |at: usize| (bytes[at].wrapping_sub(b'0'), bytes[at + 1].wrapping_sub(b'0'));
        let (month, day) = (number(5), number(8));
        let (hour, minute, second) = (number(11), number(14), number(17));
        shaped
            && ((0, 1)..=(1, 2)).contains(&month)
            && ((0, 1)..=(3, 1)).contains(&day)
            && hour <= (2, 3)
            && minute <= (5, 9)
            && second <= (6, 0)
    }
);

/// What a device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Ours is [`Request::CLIENT_ID`]; servers take any.
    pub client_id: i8,
    /// What it asks.
    pub ask: Ask,
}

/// What a device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// To be registered.
    Register {
        /// Its application.
        app_id: AppId,
        /// Its own identity.
        imei: Imei,
    },
    /// To be known to be there.
    Heartbeat,
    /// For the server's local time.
    DateTime,
}

impl Ask {
    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Register { .. } => Kind::Register,
            Self::Heartbeat => Kind::Heartbeat,
            Self::DateTime => Kind::DateTime,
        }
    }
}

impl Request {
    /// What devices call themselves.
    pub const CLIENT_ID: i8 = 0;

    /// Length of the longest, a registration, in bytes.
    pub const MAX_LEN: usize = 2 + AppId::LEN + Imei::LEN;

    /// The request that these bytes, all of a message, are.
    ///
    /// # Errors
    /// Every [`MessageError`] but [`MessageError::DateTime`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let [client_id, id, rest @ ..] = bytes else { return Err(MessageError::Length) };
        let ask = match (Kind::from_id(id.cast_signed())?, rest) {
            (Kind::Heartbeat, []) => Ask::Heartbeat,
            (Kind::DateTime, []) => Ask::DateTime,
            (Kind::Register, rest) if rest.len() == AppId::LEN + Imei::LEN => {
                let (app_id, imei) = rest.split_at(AppId::LEN);
                let (app_id, imei) = (AppId::from_bytes(app_id)?, Imei::from_bytes(imei)?);
                Ask::Register { app_id, imei }
            }
            _ => return Err(MessageError::Length),
        };
        Ok(Self { client_id: client_id.cast_signed(), ask })
    }

    /// Writes it to the front of `to`, and returns what was written.
    pub fn write<'a>(&self, to: &'a mut [u8; Self::MAX_LEN]) -> &'a [u8] {
        to[0] = self.client_id.cast_unsigned();
        to[1] = self.ask.kind().id().cast_unsigned();
        match &self.ask {
            Ask::Register { app_id, imei } => {
                let (to_app_id, to_imei) = to[2..].split_at_mut(AppId::LEN);
                to_app_id.copy_from_slice(app_id.as_bytes());
                to_imei.copy_from_slice(imei.as_bytes());
                to
            }
            Ask::Heartbeat | Ask::DateTime => &to[..2],
        }
    }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Response {
    id: i8,
    code: i8,
    time: Option<DateTime>,
}

impl Response {
    /// The error code of our own answers.
    pub const ERROR: i8 = -1;

    /// The id with which a message is answered that is too short to have one.
    pub const NO_ID: i8 = -1;

    /// Length of the longest, the time, in bytes.
    pub const MAX_LEN: usize = 2 + DateTime::LEN;

    /// The device is registered.
    #[must_use]
    pub const fn registered() -> Self {
        Self { id: Kind::Register.id(), code: 0, time: None }
    }

    /// A heartbeat was heard.
    #[must_use]
    pub const fn heartbeat() -> Self {
        Self { id: Kind::Heartbeat.id(), code: 0, time: None }
    }

    /// It is `time`.
    #[must_use]
    pub const fn date_time(time: DateTime) -> Self {
        Self { id: Kind::DateTime.id(), code: 0, time: Some(time) }
    }

    /// The request of this id failed.
    #[must_use]
    pub const fn error(id: i8) -> Self {
        Self { id, code: Self::ERROR, time: None }
    }

    /// The id of what is answered.
    #[must_use]
    pub const fn id(&self) -> i8 {
        self.id
    }

    /// What is answered.
    ///
    /// # Errors
    /// [`MessageError::Id`]: nothing that there is.
    pub fn kind(&self) -> Result<Kind, MessageError> {
        Kind::from_id(self.id)
    }

    /// 0 if all is well.
    #[must_use]
    pub const fn code(&self) -> i8 {
        self.code
    }

    /// The time, if it was asked for and there is no error.
    #[must_use]
    pub const fn time(&self) -> Option<DateTime> {
        self.time
    }

    /// The response that these bytes, all of a message, are. Behind an error code there is nothing.
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

    /// Writes it to the front of `to`, and returns what was written.
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
