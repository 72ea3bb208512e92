//! Names of programs and of keys.

use core::fmt;
use core::str::FromStr;

/// What one end calls itself: 1 to 64 characters of printable ASCII, 21 to 7E hexadecimal, so no
/// space.
pub type Name = Text<64>;

/// The id of a key: 1 to 32 characters of printable ASCII, 21 to 7E hexadecimal, so no space.
pub type KeyId = Text<32>;

/// 1 to `MAX` characters of printable ASCII, kept in place: a [`Name`] or a [`KeyId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize> {
    /// Those behind `len` are 0, so that equal texts are equal bytes.
    bytes: [u8; MAX],
    len: u8,
}

impl<const MAX: usize> Text<MAX> {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = MAX;

    /// `text`, if it is one.
    ///
    /// # Errors
    /// [`NameError`]: why it is none.
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

    /// It as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It was made of a `str`, so the empty one is never seen.
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

/// Why something is no [`Name`] or no [`KeyId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It has too many.
    TooLong {
        /// How many it may have.
        max: usize,
    },
    /// It has a space, a control or a character that is not ASCII.
    NotPrintable,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty: give it at least one character"),
            Self::TooLong { max } => write!(f, "the name is longer than {max} characters"),
            Self::NotPrintable => {
                f.write_str("a name has letters, digits and signs of ASCII only, and no space")
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
    fn a_name_is_short_printable_ascii() {
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
    fn names_are_equal_when_their_characters_are() {
        let name = |text| Name::new(text).unwrap();
        assert_eq!(name("a"), "a".parse().unwrap());
        assert_ne!(name("a"), name("ab"));
        assert_eq!(std::format!("{} {:?}", name("a"), name("b")), "a \"b\"");
    }
}
