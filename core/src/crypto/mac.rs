//! HMAC (RFC 2104).

use core::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

/// The hash function of an HMAC.
///
/// All but sha256 require the feature `digests`. md5 and sha1 are broken as hash functions. HMAC over
/// them is not known to be, and some peers support nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Digest {
    /// SHA-256 (FIPS 180-4), 32 bytes.
    Sha256,
    /// MD5 (RFC 1321), 16 bytes: the default of Python's `hmac` up to version 3.7.
    #[cfg(feature = "digests")]
    Md5,
    /// SHA-1 (FIPS 180-4), 20 bytes.
    #[cfg(feature = "digests")]
    Sha1,
    /// SHA-384 (FIPS 180-4), 48 bytes.
    #[cfg(feature = "digests")]
    Sha384,
    /// SHA-512 (FIPS 180-4), 64 bytes.
    #[cfg(feature = "digests")]
    Sha512,
    /// SHA3-256 (FIPS 202), 32 bytes.
    #[cfg(feature = "digests")]
    Sha3_256,
    /// SHA3-384 (FIPS 202), 48 bytes.
    #[cfg(feature = "digests")]
    Sha3_384,
}

impl Digest {
    /// Every digest of this build.
    pub const ALL: &'static [Self] = &[
        Self::Sha256,
        #[cfg(feature = "digests")]
        Self::Md5,
        #[cfg(feature = "digests")]
        Self::Sha1,
        #[cfg(feature = "digests")]
        Self::Sha384,
        #[cfg(feature = "digests")]
        Self::Sha512,
        #[cfg(feature = "digests")]
        Self::Sha3_256,
        #[cfg(feature = "digests")]
        Self::Sha3_384,
    ];

    /// Length of a tag, in bytes.
    #[must_use]
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            #[cfg(feature = "digests")]
            Self::Md5 => 16,
            #[cfg(feature = "digests")]
            Self::Sha1 => 20,
            #[cfg(feature = "digests")]
            Self::Sha384 | Self::Sha3_384 => 48,
            #[cfg(feature = "digests")]
            Self::Sha512 => 64,
            #[cfg(feature = "digests")]
            Self::Sha3_256 => 32,
        }
    }

    /// The name of the digest on the command line, in logs and in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            #[cfg(feature = "digests")]
            Self::Md5 => "md5",
            #[cfg(feature = "digests")]
            Self::Sha1 => "sha1",
            #[cfg(feature = "digests")]
            Self::Sha384 => "sha384",
            #[cfg(feature = "digests")]
            Self::Sha512 => "sha512",
            #[cfg(feature = "digests")]
            Self::Sha3_256 => "sha3-256",
            #[cfg(feature = "digests")]
            Self::Sha3_384 => "sha3-384",
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// HMAC under one key.
///
/// The padded key is hashed once, when the value is created; the state is wiped on drop. While the
/// state is computed the hash crates hold the key on the stack, where a copy may remain until it is
/// overwritten.
#[derive(Clone)]
pub struct Mac(Keyed);

#[derive(Clone)]
enum Keyed {
    Sha256(Hmac<Sha256>),
    #[cfg(feature = "digests")]
    Md5(Hmac<md5::Md5>),
    #[cfg(feature = "digests")]
    Sha1(Hmac<sha1::Sha1>),
    #[cfg(feature = "digests")]
    Sha384(Hmac<sha2::Sha384>),
    #[cfg(feature = "digests")]
    Sha512(Hmac<sha2::Sha512>),
    #[cfg(feature = "digests")]
    Sha3_256(sponge::Hmac<sha3::Sha3_256>),
    #[cfg(feature = "digests")]
    Sha3_384(sponge::Hmac<sha3::Sha3_384>),
}

/// Evaluates `$body` with `$mac` bound to the HMAC state, for any digest.
macro_rules! with_keyed {
    ($keyed:expr, $mac:ident => $body:expr) => {
        match $keyed {
            Keyed::Sha256($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Md5($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Sha1($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Sha384($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Sha512($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Sha3_256($mac) => $body,
            #[cfg(feature = "digests")]
            Keyed::Sha3_384($mac) => $body,
        }
    };
}

/// HMAC accepts keys of any length, so `new_from_slice` cannot fail.
fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

impl Mac {
    /// HMAC with `key`, of any length (RFC 2104, section 2: a key longer than one block is hashed).
    #[must_use]
    pub fn new(digest: Digest, key: &[u8]) -> Self {
        Self(match digest {
            Digest::Sha256 => Keyed::Sha256(keyed(key)),
            #[cfg(feature = "digests")]
            Digest::Md5 => Keyed::Md5(keyed(key)),
            #[cfg(feature = "digests")]
            Digest::Sha1 => Keyed::Sha1(keyed(key)),
            #[cfg(feature = "digests")]
            Digest::Sha384 => Keyed::Sha384(keyed(key)),
            #[cfg(feature = "digests")]
            Digest::Sha512 => Keyed::Sha512(keyed(key)),
            #[cfg(feature = "digests")]
            Digest::Sha3_256 => Keyed::Sha3_256(sponge::Hmac::new(key)),
            #[cfg(feature = "digests")]
            Digest::Sha3_384 => Keyed::Sha3_384(sponge::Hmac::new(key)),
        })
    }

    /// The digest of this HMAC.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        match self.0 {
            Keyed::Sha256(_) => Digest::Sha256,
            #[cfg(feature = "digests")]
            Keyed::Md5(_) => Digest::Md5,
            #[cfg(feature = "digests")]
            Keyed::Sha1(_) => Digest::Sha1,
            #[cfg(feature = "digests")]
            Keyed::Sha384(_) => Digest::Sha384,
            #[cfg(feature = "digests")]
            Keyed::Sha512(_) => Digest::Sha512,
            #[cfg(feature = "digests")]
            Keyed::Sha3_256(_) => Digest::Sha3_256,
            #[cfg(feature = "digests")]
            Keyed::Sha3_384(_) => Digest::Sha3_384,
        }
    }

    /// The tag of `message`.
    #[must_use]
    pub fn tag(&self, message: &[u8]) -> Tag {
        with_keyed!(&self.0, mac => {
            let mut mac = mac.clone();
            mac.update(message);
            let mut output = mac.finalize().into_bytes();
            let tag = Tag::new(&output);
            output.as_mut_slice().zeroize();
            tag
        })
    }

    /// Whether `tag` is the tag of `message`. A tag of another length than
    /// [`Digest::tag_len`] is wrong. Takes the same time for every `tag` of that length.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> Choice {
        self.tag(message).bytes().ct_eq(tag)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({}, ..)", self.digest())
    }
}

/// HMAC-SHA256 under `key` of the concatenation of `parts`.
pub(crate) fn sha256(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac: Hmac<Sha256> = keyed(key);
    parts.iter().for_each(|part| mac.update(part));
    let mut output = mac.finalize().into_bytes();
    let mut tag = Zeroizing::new([0; 32]);
    tag.copy_from_slice(&output);
    output.as_mut_slice().zeroize();
    tag
}

/// Length of the longest tag in this build, in bytes.
pub(crate) const MAX_TAG: usize = if cfg!(feature = "digests") { 64 } else { 32 };

/// An HMAC tag.
///
/// A tag that is expected from a peer is a secret, so it is wiped on drop, does not appear in `Debug`
/// and is compared by [`Mac::verify`] only.
pub struct Tag {
    bytes: Zeroizing<[u8; MAX_TAG]>,
    len: usize,
}

impl Tag {
    fn new(output: &[u8]) -> Self {
        let mut bytes = Zeroizing::new([0; MAX_TAG]);
        bytes[..output.len()].copy_from_slice(output);
        Self { bytes, len: output.len() }
    }

    /// The [`Digest::tag_len`] bytes of the tag.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(..)")
    }
}

/// HMAC over a sponge (SHA-3). `SimpleHmac` of the `hmac` crate keeps the padded key and does not
/// wipe it. This type keeps two digest states, which the `sha3` crate wipes.
#[cfg(feature = "digests")]
mod sponge {
    use hmac::digest::common::{Block, BlockSizeUser};
    use hmac::digest::{
        CtOutput, FixedOutput, HashMarker, MacMarker, Output, OutputSizeUser, Update,
    };
    use zeroize::{Zeroize, Zeroizing};

    pub(super) trait Sponge:
        Default + Clone + Update + FixedOutput + BlockSizeUser + HashMarker
    {
    }

    impl<D: Default + Clone + Update + FixedOutput + BlockSizeUser + HashMarker> Sponge for D {}

    #[derive(Clone)]
    pub(super) struct Hmac<D> {
        inner: D,
        outer: D,
    }

    impl<D: Sponge> Hmac<D> {
        pub(super) fn new(key: &[u8]) -> Self {
            let mut block = Zeroizing::new([0; 136 /* the largest block: SHA3-256 */]);
            let block = &mut block[..Block::<D>::default().len()];
            if key.len() > block.len() {
                let mut digest = D::default();
                digest.update(key);
                let mut hashed = digest.finalize_fixed();
                block[..hashed.len()].copy_from_slice(&hashed);
                hashed.as_mut_slice().zeroize();
            } else {
                block[..key.len()].copy_from_slice(key);
            }
            let mut pad = |byte: u8| {
                block.iter_mut().for_each(|b| *b ^= byte);
                let mut digest = D::default();
                digest.update(block);
                digest
            };
            let inner = pad(0x36);
            let outer = pad(0x36 ^ 0x5c);
            Self { inner, outer }
        }
    }

    impl<D: Sponge> OutputSizeUser for Hmac<D> {
        type OutputSize = D::OutputSize;
    }

    impl<D> MacMarker for Hmac<D> {}

    impl<D: Sponge> Hmac<D> {
        pub(super) fn update(&mut self, data: &[u8]) {
            self.inner.update(data);
        }

        pub(super) fn finalize(mut self) -> CtOutput<Self> {
            let inner: Output<D> = self.inner.finalize_fixed();
            self.outer.update(&inner);
            CtOutput::new(self.outer.finalize_fixed())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_length_matches_the_digest() {
        for &digest in Digest::ALL {
            let mac = Mac::new(digest, b"key");
            assert_eq!(mac.digest(), digest);
            assert_eq!(mac.tag(b"message").bytes().len(), digest.tag_len());
        }
    }

    /// The RFCs have no vectors for SHA-3, so the reference is `SimpleHmac`.
    #[cfg(feature = "digests")]
    #[test]
    fn sponge_hmac_equals_simple_hmac() {
        fn generic<M: KeyInit + hmac::Mac>(key: &[u8], message: &[u8], tag: &Tag) {
            let mut mac = keyed::<M>(key);
            mac.update(message);
            assert_eq!(mac.finalize().into_bytes().as_slice(), tag.bytes(), "{}", key.len());
        }
        // Shorter and longer than both block lengths, 104 and 136 bytes.
        let key: [u8; 300] = core::array::from_fn(|i| i as u8);
        for len in 0..key.len() {
            let (key, message) = (&key[..len], &key[len..]);
            let tag = |digest| Mac::new(digest, key).tag(message);
            generic::<hmac::SimpleHmac<sha3::Sha3_256>>(key, message, &tag(Digest::Sha3_256));
            generic::<hmac::SimpleHmac<sha3::Sha3_384>>(key, message, &tag(Digest::Sha3_384));
        }
    }

    #[test]
    fn digest_names_match_the_command_line() {
        extern crate std;
        use std::string::{String, ToString};
        use std::vec::Vec;

        let names: Vec<String> = Digest::ALL.iter().map(ToString::to_string).collect();
        let known = ["sha256", "md5", "sha1", "sha384", "sha512", "sha3-256", "sha3-384"];
        assert_eq!(names, known[..names.len()]);
    }

    #[test]
    fn only_the_complete_tag_verifies() {
        for &digest in Digest::ALL {
            let mac = Mac::new(digest, b"key");
            let tag = mac.tag(b"message");
            let tag = tag.bytes();
            assert!(bool::from(mac.verify(b"message", tag)));
            assert!(!bool::from(mac.verify(b"massage", tag)));
            assert!(!bool::from(mac.verify(b"message", &tag[..tag.len() - 1])));
            assert!(!bool::from(mac.verify(b"message", &[])));
            let mut longer = [0; MAX_TAG + 1];
            longer[..tag.len()].copy_from_slice(tag);
            assert!(!bool::from(mac.verify(b"message", &longer[..=tag.len()])));
            for bit in 0..tag.len() * 8 {
                let mut flipped = [0; MAX_TAG];
                flipped[..tag.len()].copy_from_slice(tag);
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(!bool::from(mac.verify(b"message", &flipped[..tag.len()])));
            }
        }
    }
}
