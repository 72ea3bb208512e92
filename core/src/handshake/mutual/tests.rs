//! What the tests of the machine share: one end of a handshake, without its session.

extern crate std;

mod agree;
mod client;
mod forge;
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

/// The largest N that each end takes.
const CLIENT_FRAME: u32 = 0x0101_0101;
const SERVER_FRAME: u32 = 0x0202_0202;

const CLIENT_INSTANCE: [u8; 16] = [0xc3; 16];
const SERVER_INSTANCE: [u8; 16] = [0xd4; 16];
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
    config::Mutual::new(name("client"), process_id(CLIENT_INSTANCE))
}

fn server() -> config::Mutual {
    config::Mutual::new(name("server"), process_id(SERVER_INSTANCE))
}

fn key(secret: u8) -> Key {
    Key::mutual(&[secret; 32]).unwrap()
}

/// One end, its buffer, and what it holds.
struct Side {
    handshake: Handshake,
    buffer: HandshakeBuffer<Vec<u8>>,
}

impl Side {
    fn new(mutual: &config::Mutual, role: Role) -> Self {
        let scheme = Scheme::Mutual(mutual.clone());
        // Whatever was in the buffer before.
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
        let gone = Handshake::Complete { authenticated: false };
        let handshake = core::mem::replace(&mut self.handshake, gone);
        let (received, mut out) = self.buffer.split();
        self.handshake = handshake.step(input, received, &mut out)?;
        Ok(())
    }

    /// Has all of `bytes` read, no more at a time than are wanted.
    fn hears(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let space = self.buffer.space(self.handshake.want());
            let n = space.len().min(bytes.len());
            assert!(n > 0, "{} bytes are not wanted", bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.buffer.commit(n);
            bytes = &bytes[n..];
            if self.buffer.received_len() == self.handshake.want() {
                self.step(Input::Received)?;
            }
        }
        Ok(())
    }

    fn says(&mut self) -> Vec<u8> {
        let said = self.buffer.pending().to_vec();
        self.buffer.handle_transmitted(said.len());
        said
    }

    fn key(&mut self, key: &Key) -> Result<(), Error> {
        self.step(Input::Key(Ok(Candidates::one(key))))
    }

    fn request(&self) -> Option<KeyRequest<'_>> {
        assert_eq!(
            self.handshake.key_purpose().is_some(),
            self.handshake.key_request(self.buffer.view()).is_some()
        );
        self.handshake.key_request(self.buffer.view())
    }

    /// Whether it waits for neither bytes nor a binding.
    fn wants_nothing(&self) -> bool {
        self.handshake.want() <= self.buffer.received_len()
    }

    fn is_agreed(&self) -> bool {
        assert_eq!(self.output().is_some(), self.handshake.is_over());
        self.handshake.is_over()
    }

    fn output(&self) -> Option<HandshakeOutput> {
        self.handshake.output(self.buffer.view())
    }
}

/// A client that has proved itself to a server that has not looked at it yet, and M1 and M2.
fn proved(
    client: &config::Mutual,
    server: &config::Mutual,
    key: &Key,
) -> (Side, Side, [Vec<u8>; 2]) {
    let (mut client, mut server) = (Side::client(client), Side::server(server));
    let m1 = server.says();
    client.hears(&m1).unwrap();
    client.key(key).unwrap();
    let m2 = client.says();
    server.hears(&m2).unwrap();
    (client, server, [m1, m2])
}

/// The server's verdict if it is given `answer`; unless it is the right one it says nothing.
fn verdict(
    client: &config::Mutual,
    server: &config::Mutual,
    held: &Key,
    answer: Result<Candidates<'_>, KeyRejection>,
) -> Result<(), Error> {
    let (mut client, mut server, _) = proved(client, server, held);
    let verdict = server.step(Input::Key(answer));
    let m3 = server.says();
    assert_eq!(verdict.is_ok(), !m3.is_empty());
    if verdict.is_ok() {
        client.hears(&m3).unwrap();
        client.key(held).unwrap();
        assert_eq!(identity(&client), identity(&server));
    }
    verdict
}

/// What an end that has agreed takes this session and its key for.
fn identity(side: &Side) -> ([u8; 16], [u8; 32], Fingerprint) {
    let peer = side.output().unwrap().peer;
    let (id, exporter) = peer.session.unwrap();
    (id, *exporter, peer.fingerprint.unwrap())
}

#[test]
fn an_alert_tells_a_class_and_no_more() {
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
fn a_configuration_that_cannot_be_is_refused() {
    let new = |mutual: &config::Mutual| {
        let mut buffer = HandshakeBuffer::new(vec![0; 1024], &Scheme::Mutual(mutual.clone()));
        let nonce = Nonce::from_bytes([0; Nonce::LEN]);
        Mutual::new(mutual, Role::Server, nonce, 256, &mut buffer.transmit()).map(drop)
    };
    assert_eq!(new(&server()), Ok(()));
    assert_eq!(new(&server().without_tags()), Err(ConfigError::Unprotected));
    assert_eq!(new(&server().with_channel_binding()), Ok(()));
    assert_eq!(new(&server().with_channel_binding().without_tags()), Ok(()));
    let hurried = server().with_heartbeat(Duration::from_millis(999));
    assert_eq!(new(&hurried), Err(ConfigError::Heartbeat));
}

#[test]
fn each_message_fits_the_longest_that_is_received_and_that_is_sent() {
    let long = |letter: &str, len| letter.repeat(len);
    let kid = KeyId::new(&long("k", 32)).unwrap();
    let client = config::Mutual::new(name(&long("c", 64)), process_id(CLIENT_INSTANCE))
        .with_key_id(kid)
        .with_expected_server(name(&long("s", 64)));
    let server = config::Mutual::new(name(&long("s", 64)), process_id(SERVER_INSTANCE));
    let key = key(1);
    let (mut client, mut server, [m1, m2]) = proved(&client, &server, &key);
    server.key(&key).unwrap();
    let m3 = server.says();
    client.hears(&m3).unwrap();
    assert_eq!(m2.len(), message::MAX_M2);
    assert_eq!(m3.len(), message::MAX_M3);
    assert!(m2.len() <= RECEIVE_LEN && message::MAX_M1 + m3.len() <= RECEIVE_LEN);
    assert!(m1.len() + m3.len() <= TRANSMIT_LEN && m2.len() <= TRANSMIT_LEN);
    assert_eq!(max(1, 2), 2);
    assert_eq!(max(2, 1), 2);
}

#[test]
fn debug_tells_the_state_and_nothing_secret() {
    let key = key(0x5e);
    let shown = |side: &Side| std::format!("{:?}", side.handshake);
    let (mut client, mut server, _) = proved(&client(), &server(), &key);
    assert_eq!(shown(&server), "Mutual(Mutual { role: Server, state: \"AwaitVerificationKey\" })");
    assert_eq!(shown(&client), "Mutual(Mutual { role: Client, state: \"AwaitServerProof\" })");
    server.key(&key).unwrap();
    client.hears(&server.says()).unwrap();
    assert_eq!(shown(&server), "Mutual(Mutual { role: Server, state: \"Agreed\" })");
    assert_eq!(shown(&client), "Mutual(Mutual { role: Client, state: \"AwaitAuthorization\" })");
}
