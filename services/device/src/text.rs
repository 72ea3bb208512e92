//! Fixed-length ASCII texts of messages.

/// Defines an ASCII text of `$len` bytes that satisfies `$valid`. Needs `MessageError` in scope.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $len:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Checks `bytes`.
            ///
            /// # Errors
            #[doc = concat!("[`MessageError::", stringify!($name), "`]: the length or a byte is wrong.")]
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
                let valid: fn(&[u8; $len]) -> bool = $valid;
                bytes.try_into().ok().filter(valid).map(Self).ok_or(MessageError::$name)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // The bytes are ASCII, so this does not fail.
                core::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl core::str::FromStr for $name {
            type Err = MessageError;

            fn from_str(text: &str) -> Result<Self, MessageError> {
                Self::from_bytes(text.as_bytes())
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

pub(crate) use text;
