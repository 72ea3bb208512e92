//! Requests of the device (docs/PROTOCOL.md, section "device").

use crate::app_id::AppId;
use crate::imei::Imei;
use crate::kind::Kind;
use crate::message_error::MessageError;

/// A request of a device: `i8` client id, `i8` [`Kind`], and the fields of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Chosen by the device; servers accept any. [`DeviceClient`](crate::DeviceClient) uses
    /// [`Request::CLIENT_ID`].
    pub client_id: i8,
    /// The kind of the request and its fields.
    pub body: RequestBody,
}

/// What a device requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestBody {
    /// Registers the device.
    Register {
        /// The application that the device runs.
        app_id: AppId,
        /// The device.
        imei: Imei,
    },
    /// Shows that the device is alive.
    Heartbeat,
    /// Requests the server's local time.
    DateTime,
}

impl RequestBody {
    /// The kind of the request.
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
    /// The client id of [`DeviceClient`](crate::DeviceClient).
    pub const CLIENT_ID: i8 = 0;

    /// Length in bytes of the longest request, a registration.
    pub const MAX_LEN: usize = 2 + AppId::LEN + Imei::LEN;

    /// Parses a whole message.
    ///
    /// # Errors
    /// Every [`MessageError`] but [`MessageError::DateTime`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let [client_id, id, rest @ ..] = bytes else { return Err(MessageError::Length) };
        let body = match (Kind::from_id(id.cast_signed())?, rest) {
            (Kind::Heartbeat, []) => RequestBody::Heartbeat,
            (Kind::DateTime, []) => RequestBody::DateTime,
            (Kind::Register, rest) if rest.len() == AppId::LEN + Imei::LEN => {
                let (app_id, imei) = rest.split_at(AppId::LEN);
                let (app_id, imei) = (AppId::from_bytes(app_id)?, Imei::from_bytes(imei)?);
                RequestBody::Register { app_id, imei }
            }
            _ => return Err(MessageError::Length),
        };
        Ok(Self { client_id: client_id.cast_signed(), body })
    }

    /// Writes the request to the front of `to` and returns the written bytes.
    pub fn write<'a>(&self, to: &'a mut [u8; Self::MAX_LEN]) -> &'a [u8] {
        to[0] = self.client_id.cast_unsigned();
        to[1] = self.body.kind().id().cast_unsigned();
        match &self.body {
            RequestBody::Register { app_id, imei } => {
                let (to_app_id, to_imei) = to[2..].split_at_mut(AppId::LEN);
                to_app_id.copy_from_slice(app_id.as_bytes());
                to_imei.copy_from_slice(imei.as_bytes());
                to
            }
            RequestBody::Heartbeat | RequestBody::DateTime => &to[..2],
        }
    }
}
