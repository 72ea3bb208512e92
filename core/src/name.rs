//! Names of endpoints and ids of keys.

use core::fmt;
use core::str::FromStr;

/// The name of an endpoint in the scheme `mutual`: 1 to 64 printable ASCII characters (0x21 to 0x7E,
/// no space).
///
/// ```
/// use countersign::{Name, NameError};
///
/// let name: Name = "server-1".parse()?;
/// assert_eq!(name.as_str(), "server-1");
/// assert_eq!(Name::new("server 1"), Err(NameError::NotPrintable));
/// # Ok::<(), NameError>(())
/// ```
pub type Name = Text<64>;

/// The id of a key in the scheme `mutual`: 1 to 32 printable ASCII characters (0x21 to 0x7E, no
/// space).
pub type KeyId = Text<32>;

/// 1 to `MAX` printable ASCII characters, stored inline: a [`Name`] or a [`KeyId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize> {
    /// Zero after `len`, so that the derived comparisons compare texts.
    bytes: [u8; MAX],
    len: u8,
}

impl<const MAX: usize> Text<MAX> {
    /// The greatest length, in bytes.
    pub const MAX_LEN: usize = MAX;

    /// Checks and copies `text`.
    ///
    /// # Errors
    /// Every [`NameError`].
    pub const fn new(text: &str) -> Result<Self, NameError> {
        const { assert!(MAX <= u8::MAX as usize) };
        let from = text.as_bytes();
        if from.is_empty() {
            return Err(NameError::Empty);
        }
        if from.len() > MAX {
            return Err(NameError::TooLong { max: MAX });
        }
        let mut bytes = [0; MAX];
        let mut at = 0;
        while at < from.len() {
            if !from[at].is_ascii_graphic() {
                return Err(NameError::NotPrintable);
            }
            bytes[at] = from[at];
            at += 1;
        }
        Ok(Self { bytes, len: from.len() as u8 })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always valid UTF-8, as it was copied from a `str` of ASCII.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<const MAX: usize> AsRef<str> for Text<MAX> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a text is not a valid [`Name`] or [`KeyId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is too long.
    TooLong {
        /// The greatest length, in characters.
        max: usize,
    },
    /// The text contains a space, a control character or a character outside ASCII.
    NotPrintable,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty: give it at least one character"),
            Self::TooLong { max } => write!(f, "the name exceeds {max} characters: shorten it"),
            Self::NotPrintable => {
                f.write_str("the name contains a space or a character outside printable ASCII: use letters, digits and punctuation")
            }
        }
    }
}

impl core::error::Error for NameError {}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn names_are_short_printable_ascii() {
        let all: Vec<u8> = (0x21..=0x7e).collect();
        for chunk in all.chunks(Name::MAX_LEN) {
            let text = core::str::from_utf8(chunk).unwrap();
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
        for byte in (0..=0x20).chain([0x7f]) {
            let text = char::from(byte).to_string();
            assert_eq!(KeyId::new(&text), Err(NameError::NotPrintable), "{byte}");
        }
        assert_eq!(Name::new("é"), Err(NameError::NotPrintable));
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(&"n".repeat(64)).unwrap().as_str().len(), 64);
        assert_eq!(Name::new(&"n".repeat(65)), Err(NameError::TooLong { max: 64 }));
        assert_eq!(KeyId::new(&"k".repeat(33)), Err(NameError::TooLong { max: 32 }));
    }

    #[test]
    fn names_are_equal_if_their_characters_are() {
        let name = |text| Name::new(text).unwrap();
        assert_eq!(name("a"), "a".parse().unwrap());
        assert_ne!(name("a"), name("ab"));
        assert_eq!(std::format!("{} {:?}", name("a"), name("b")), "a \"b\"");
    }
}
