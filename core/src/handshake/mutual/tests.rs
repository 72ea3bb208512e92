//! Helpers shared by the tests of the handshake `mutual`: one endpoint, without a session.

extern crate std;

mod agree;
mod client;
mod forged_server;
mod server;

use super::*;
use crate::config::Scheme;
use crate::crypto::keys::Key;
use crate::error::Alert;
use crate::handshake::HandshakeBuffer;
use crate::process_id::ProcessId;
use core::time::Duration;
use std::vec;
use std::vec::Vec;

/// The maximum frame length that each side announces.
const CLIENT_FRAME: u32 = 0x0101_0101;
const SERVER_FRAME: u32 = 0x0202_0202;

const CLIENT_PROCESS_ID: [u8; 16] = [0xc3; 16];
const SERVER_PROCESS_ID: [u8; 16] = [0xd4; 16];
/// The bytes of the dummy key, which stands in for a key that the server does not have.
const DUMMY: [u8; 32] = [0xdd; 32];

fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

fn process_id(id: [u8; 16]) -> ProcessId {
    let mut bytes = [DUMMY[0]; ProcessId::LEN];
    bytes[..16].copy_from_slice(&id);
    ProcessId::from_bytes(&bytes)
}

fn client() -> config::Mutual {
    config::Mutual::new(name("client"), process_id(CLIENT_PROCESS_ID))
}

fn server() -> config::Mutual {
    config::Mutual::new(name("server"), process_id(SERVER_PROCESS_ID))
}

fn key(secret: u8) -> Key {
    Key::mutual(&[secret; 32]).unwrap()
}

/// One side of a handshake and its buffer.
struct Endpoint {
    handshake: Handshake,
    buffer: HandshakeBuffer<Vec<u8>>,
}

impl Endpoint {
    fn new(mutual: &config::Mutual, role: Role) -> Self {
        let scheme = Scheme::Mutual(mutual.clone());
        // The buffer starts with arbitrary content.
        let mut buffer = HandshakeBuffer::new(vec![0xee; 1024], &scheme);
        let (nonce, max_frame) = match role {
            Role::Client => (Nonce::from_bytes([0xb2; Nonce::LEN]), CLIENT_FRAME),
            Role::Server => (Nonce::from_bytes([0xa1; Nonce::LEN]), SERVER_FRAME),
        };
        let mutual = Mutual::new(mutual, role, nonce, max_frame, &mut buffer.transmit());
        Self { handshake: Handshake::Mutual(mutual.unwrap()), buffer }
    }

    fn client(mutual: &config::Mutual) -> Self {
        Self::new(mutual, Role::Client)
    }

    fn server(mutual: &config::Mutual) -> Self {
        Self::new(mutual, Role::Server)
    }

    fn step(&mut self, input: Input<'_>) -> Result<(), Error> {
        let placeholder = Handshake::Complete { authenticated: false };
        let handshake = core::mem::replace(&mut self.handshake, placeholder);
        let (received, mut out) = self.buffer.split();
        self.handshake = handshake.step(input, received, &mut out)?;
        Ok(())
    }

    /// Delivers all of `bytes`, never more at a time than the handshake wants.
    fn deliver(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = self.buffer.space(self.handshake.want());
            let n = space.len().min(bytes.len());
            assert!(n > 0, "the handshake does not want {} bytes", bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.buffer.commit(n);
            bytes = &bytes[n..];
            if self.buffer.received_len() == self.handshake.want() {
                self.step(Input::Received)?;
            }
        }
        Ok(())
    }

    /// Transmits all pending bytes.
    fn transmit(&mut self) -> Vec<u8> {
        let transmitted = self.buffer.pending().to_vec();
        self.buffer.handle_transmitted(transmitted.len());
        transmitted
    }

    fn provide_key(&mut self, key: &Key) -> Result<(), Error> {
        self.step(Input::Key(Ok(Candidates::one(key))))
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        assert_eq!(
            self.handshake.key_purpose().is_some(),
            self.handshake.key_request(self.buffer.view()).is_some()
        );
        self.handshake.key_request(self.buffer.view())
    }

    /// Whether the handshake waits for neither bytes nor a channel binding.
    fn wants_no_input(&self) -> bool {
        self.handshake.want() <= self.buffer.received_len()
    }

    fn is_complete(&self) -> bool {
        assert_eq!(self.output().is_some(), self.handshake.is_over());
        self.handshake.is_over()
    }

    fn output(&self) -> Option<HandshakeOutput> {
        self.handshake.output(self.buffer.view())
    }
}

/// A client and a server after M2, before the server verifies it; and the bytes of M1 and M2.
fn exchange_m1_m2(
    client: &config::Mutual,
    server: &config::Mutual,
    key: &Key,
) -> (Endpoint, Endpoint, [Vec<u8>; 2]) {
    let (mut client, mut server) = (Endpoint::client(client), Endpoint::server(server));
    let m1 = server.transmit();
    client.deliver(&m1).unwrap();
    client.provide_key(key).unwrap();
    let m2 = client.transmit();
    server.deliver(&m2).unwrap();
    (client, server, [m1, m2])
}

/// The result of a server that answers its key request with `answer`, for a client with the key
/// `held`. The server sends M3 exactly if it accepts the client; the client then agrees with it.
fn verify_client(
    client: &config::Mutual,
    server: &config::Mutual,
    held: &Key,
    answer: Result<Candidates<'_>, KeyRejection>,
) -> Result<(), Error> {
    let (mut client, mut server, _) = exchange_m1_m2(client, server, held);
    let verdict = server.step(Input::Key(answer));
    let m3 = server.transmit();
    assert_eq!(verdict.is_ok(), !m3.is_empty());
    if verdict.is_ok() {
        client.deliver(&m3).unwrap();
        client.provide_key(held).unwrap();
        assert_eq!(session_identity(&client), session_identity(&server));
    }
    verdict
}

/// Session id, exporter and key fingerprint at an endpoint whose handshake is complete.
fn session_identity(endpoint: &Endpoint) -> ([u8; 16], [u8; 32], Fingerprint) {
    let peer = endpoint.output().unwrap().peer;
    let (id, exporter) = peer.session.unwrap();
    (id, *exporter, peer.fingerprint.unwrap())
}

#[test]
fn alert_reveals_only_the_error_class() {
    let reasons = [KeyRejection::Unknown, KeyRejection::OutOfDate, KeyRejection::WrongRole]
        .map(Error::Refused);
    let identities = [
        IdentityError::WrongServer,
        IdentityError::SameName,
        IdentityError::SameProcess,
        IdentityError::NameNotAllowed,
    ];
    for error in reasons.into_iter().chain(identities.map(Error::Identity)) {
        assert_eq!(alert(error), alert(Error::WrongKey), "{error:?}");
    }
    use crate::error::{CloseReason, TimedOut, Truncated};
    for (code, error) in [
        (1, Error::WrongKey),
        (2, Error::Incompatible),
        (3, Error::Aborted(CloseReason::Shutdown)),
        (4, Error::Malformed),
        (4, Error::Truncated(Truncated::Handshake)),
        (5, Error::TimedOut(TimedOut::Handshake)),
    ] {
        assert_eq!(alert(error), [0, 0, 0, 2, 0x7f, code], "{error:?}");
    }
    assert_eq!(BUSY, [0, 0, 0, 2, 0x7f, 3]);
}

#[test]
fn invalid_configuration_is_rejected() {
    let new = |mutual: &config::Mutual| {
        let mut buffer = HandshakeBuffer::new(vec![0; 1024], &Scheme::Mutual(mutual.clone()));
        let nonce = Nonce::from_bytes([0; Nonce::LEN]);
        Mutual::new(mutual, Role::Server, nonce, 256, &mut buffer.transmit()).map(drop)
    };
    assert_eq!(new(&server()), Ok(()));
    assert_eq!(new(&server().without_tags()), Err(ConfigError::Unprotected));
    assert_eq!(new(&server().with_channel_binding()), Ok(()));
    assert_eq!(new(&server().with_channel_binding().without_tags()), Ok(()));
    let short_heartbeat = server().with_heartbeat(Duration::from_millis(999));
    assert_eq!(new(&short_heartbeat), Err(ConfigError::Heartbeat));
}

#[test]
fn longest_messages_fit_the_handshake_buffer() {
    let long = |letter: &str, len| letter.repeat(len);
    let key_id = KeyId::new(&long("k", 32)).unwrap();
    let client = config::Mutual::new(name(&long("c", 64)), process_id(CLIENT_PROCESS_ID))
        .with_key_id(key_id)
        .with_expected_server(name(&long("s", 64)));
    let server = config::Mutual::new(name(&long("s", 64)), process_id(SERVER_PROCESS_ID));
    let key = key(1);
    let (mut client, mut server, [m1, m2]) = exchange_m1_m2(&client, &server, &key);
    server.provide_key(&key).unwrap();
    let m3 = server.transmit();
    client.deliver(&m3).unwrap();
    assert_eq!(m2.len(), message::MAX_M2);
    assert_eq!(m3.len(), message::MAX_M3);
    assert!(m2.len() <= RECEIVE_LEN && message::MAX_M1 + m3.len() <= RECEIVE_LEN);
    assert!(m1.len() + m3.len() <= TRANSMIT_LEN && m2.len() <= TRANSMIT_LEN);
    assert_eq!(max(1, 2), 2);
    assert_eq!(max(2, 1), 2);
}

#[test]
fn debug_shows_the_state_and_no_secret() {
    let key = key(0x5e);
    let debug = |endpoint: &Endpoint| std::format!("{:?}", endpoint.handshake);
    let (mut client, mut server, _) = exchange_m1_m2(&client(), &server(), &key);
    assert_eq!(debug(&server), "Mutual(Mutual { role: Server, state: \"AwaitVerificationKey\" })");
    assert_eq!(debug(&client), "Mutual(Mutual { role: Client, state: \"AwaitServerProof\" })");
    server.provide_key(&key).unwrap();
    client.deliver(&server.transmit()).unwrap();
    assert_eq!(debug(&server), "Mutual(Mutual { role: Server, state: \"Agreed\" })");
    assert_eq!(debug(&client), "Mutual(Mutual { role: Client, state: \"AwaitAuthorization\" })");
}
