//! Identifiers of applications.

use crate::message_error::MessageError;
use crate::text::text;

text!(
    /// Identifies the application that a device runs: 36 printable ASCII characters, usually a UUID.
    AppId,
    36,
    |bytes| bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
);
