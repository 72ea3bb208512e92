//! The key schedule of the scheme `mutual` (docs/PROTOCOL.md, "Keys"): HKDF (RFC 5869) with SHA-256.
//!
//! ```text
//! secret ─ Extract ─▶ prk ─ "import", suite, key id ─▶ k0 ─┬─ "client auth", "server auth" ─▶ proofs
//!                                                          └─ "session", transcript ─▶ master
//! master ─┬─ "c2s", "s2c" ─ "key" ─▶ the key of each direction
//!         └─ "exporter" ─▶ exporter secret
//! ```
//! Every output has 32 bytes, one block of HKDF-Expand.

use core::fmt;

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::mac;
use crate::role::Role;

/// The prefix of every transcript and the salt of HKDF-Extract.
const PROTOCOL: &[u8] = b"countersign/1";

/// Length of every key and hash of the schedule, in bytes.
pub(crate) const LEN: usize = 32;

/// 32 secret bytes, wiped on drop.
pub(crate) type Secret = Zeroizing<[u8; LEN]>;

/// A hash of handshake messages.
pub(crate) type Hash = [u8; LEN];

/// A key as the HMAC state of HKDF-Expand, computed once for all outputs.
struct Expand(Hkdf<Sha256>);

impl Expand {
    fn new(prk: &[u8; LEN]) -> Self {
        let Ok(hkdf) = Hkdf::from_prk(prk) else {
            unreachable!("a key of a hash's length is long enough")
        };
        Self(hkdf)
    }

    /// HKDF-Expand with the concatenation of `info`.
    fn output(&self, info: &[&[u8]]) -> Secret {
        let mut out = Secret::default();
        if self.0.expand_multi_info(info, out.as_mut_slice()).is_err() {
            unreachable!("one output is not too long");
        }
        out
    }
}

/// A secret after HKDF-Extract. The secret itself is not kept.
#[derive(Clone)]
pub(crate) struct Prk {
    key: Secret,
    fingerprint: Fingerprint,
}

impl Prk {
    pub(crate) fn extract(secret: &[u8]) -> Self {
        let (mut prk, _) = Hkdf::<Sha256>::extract(Some(PROTOCOL), secret);
        let mut key = Secret::default();
        key.copy_from_slice(&prk);
        prk.as_mut_slice().zeroize();
        let derived = Expand::new(&key).output(&[b"fingerprint"]);
        let mut fingerprint = Fingerprint([0; Fingerprint::LEN]);
        fingerprint.0.copy_from_slice(&derived[..Fingerprint::LEN]);
        Self { key, fingerprint }
    }

    /// A key that no peer holds, in place of one that does not exist.
    pub(crate) fn dummy(bytes: &[u8; LEN]) -> Self {
        Self { key: Secret::new(*bytes), fingerprint: Fingerprint([0; Fingerprint::LEN]) }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The key for all handshakes with this suite and key id.
    pub(crate) fn import(&self, suite: u8, kid: &str) -> Imported {
        // A key id has at most 32 bytes.
        let lv = [suite, kid.len() as u8];
        Imported(Expand::new(&self.key).output(&[b"import", &lv, kid.as_bytes()]))
    }
}

/// Identifies a key without revealing it. See [`Key::fingerprint`](crate::Key::fingerprint).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::LEN]);

impl Fingerprint {
    const LEN: usize = 8;
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// `k0`: the key for one suite and key id, imported as in RFC 9258.
pub(crate) struct Imported(Secret);

impl Imported {
    /// `second` if `choice` is set, otherwise `first`, in constant time.
    pub(crate) fn select(first: &Self, second: &Self, choice: Choice) -> Self {
        let mut selected = Secret::default();
        for ((to, a), b) in selected.iter_mut().zip(first.0.iter()).zip(second.0.iter()) {
            *to = u8::conditional_select(a, b, choice);
        }
        Self(selected)
    }

    /// Prepares the derivations of one handshake step.
    pub(crate) fn absorb(&self) -> HandshakeKeys {
        HandshakeKeys(Expand::new(&self.0))
    }
}

/// `k0` as HMAC state. Larger than [`Imported`], so it lives only within one handshake step.
pub(crate) struct HandshakeKeys(Expand);

impl HandshakeKeys {
    /// The proof of an end in the role `role`. `transcript` is the hash of all messages up to that
    /// of the proof, without the proof.
    pub(crate) fn proof(&self, role: Role, transcript: &Hash) -> Secret {
        let (derive, label): (&[u8], &[u8]) = match role {
            Role::Client => (b"client auth", b"client"),
            Role::Server => (b"server auth", b"server"),
        };
        mac::sha256(&self.0.output(&[derive]), &[label, transcript])
    }

    /// The master key of the session with the transcript hash `th`.
    pub(crate) fn master(&self, th: &Hash) -> Master {
        Master(self.0.output(&[b"session", th]))
    }
}

/// Compares the `proof` of a peer with the `expected` one, in constant time.
pub(crate) fn verify(expected: &Secret, proof: &[u8; LEN]) -> Choice {
    expected.as_slice().ct_eq(proof)
}

/// The master key of a session.
pub(crate) struct Master(Secret);

impl Master {
    /// The keys of the end in the role `role`.
    pub(crate) fn derive(&self, role: Role) -> SessionKeys {
        let master = Expand::new(&self.0);
        let traffic = |sender| {
            let direction: &[u8] = match sender {
                Role::Client => b"c2s",
                Role::Server => b"s2c",
            };
            Expand::new(&master.output(&[direction])).output(&[b"key"])
        };
        SessionKeys {
            send: traffic(role),
            receive: traffic(role.other()),
            exporter: master.output(&[b"exporter"]),
        }
    }
}

/// The keys of one end of a session.
pub(crate) struct SessionKeys {
    /// The key for the frames of this end.
    pub(crate) send: Secret,
    /// The key for the frames of the peer.
    pub(crate) receive: Secret,
    /// The exporter secret, from which the application derives keys for other protocols.
    pub(crate) exporter: Secret,
}

/// The hash of the messages of a handshake, in order.
#[derive(Clone)]
pub(crate) struct Transcript(Sha256);

impl Transcript {
    /// `binding` is the channel binding, inside TLS.
    pub(crate) fn new(binding: Option<&[u8; LEN]>) -> Self {
        let hash = Sha256::new_with_prefix(PROTOCOL);
        Self(match binding {
            None => hash.chain_update([0]),
            Some(exporter) => hash.chain_update([1]).chain_update(exporter),
        })
    }

    #[inline]
    pub(crate) fn absorb(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    pub(crate) fn hash(&self) -> Hash {
        self.0.clone().finalize().into()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn fingerprint_is_not_printed() {
        let fingerprint = Prk::extract(b"a secret of some length").fingerprint();
        assert_eq!(std::format!("{fingerprint:?}"), "Fingerprint(..)");
    }

    #[test]
    fn keys_differ_by_suite_key_id_role_and_use() {
        let prk = Prk::extract(b"a secret of some length");
        let transcript = Transcript::new(None).absorb(b"messages");
        let th = transcript.hash();
        let proof = |suite, kid, role| *prk.import(suite, kid).absorb().proof(role, &th);
        let one = proof(1, "kid", Role::Client);
        assert_eq!(one, proof(1, "kid", Role::Client));
        assert_ne!(one, proof(0, "kid", Role::Client));
        assert_ne!(one, proof(1, "kie", Role::Client));
        assert_ne!(one, proof(1, "kid", Role::Server));
        let master = prk.import(1, "kid").absorb().master(&th);
        let SessionKeys { send, receive, exporter } = master.derive(Role::Client);
        assert!(send != receive && send != exporter && receive != exporter);
        let other = master.derive(Role::Server);
        assert!(other.send == receive && other.receive == send && other.exporter == exporter);
    }

    #[test]
    fn transcript_includes_the_channel_binding() {
        let hash = |binding: Option<&[u8; LEN]>| Transcript::new(binding).absorb(b"m").hash();
        assert_ne!(hash(None), hash(Some(&[0; LEN])));
        assert_ne!(hash(Some(&[1; LEN])), hash(Some(&[0; LEN])));
        let whole = Transcript::new(None).absorb(b"one").absorb(b"two").hash();
        assert_eq!(whole, Transcript::new(None).absorb(b"onetwo").hash());
    }

    #[test]
    fn verify_rejects_every_flipped_bit() {
        let expected = Secret::new([7; LEN]);
        assert!(bool::from(verify(&expected, &[7; LEN])));
        for bit in 0..LEN * 8 {
            let mut proof = [7; LEN];
            proof[bit / 8] ^= 1 << (bit % 8);
            assert!(!bool::from(verify(&expected, &proof)));
        }
    }
}
