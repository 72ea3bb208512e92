//! Keyrings that are replaced while a session is open.

#![cfg(test)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::Waker;

use countersign::{CloseReason, Config, Error, Instant, Key, Mutual, ProcessId, Scheme};
use countersign_driver::services::Echo;
use countersign_driver::{Io, Progress, ServiceConnection};
use countersign_host::{BoxedProtocol, Keyring, Pools, ProtocolFactory, SessionFactory};

const SECRET: &str = "a key that is long enough for anyone";
const NOW: Instant = Instant::EPOCH;

type Bytes = Rc<RefCell<VecDeque<u8>>>;
type Connection = ServiceConnection<BoxedProtocol, Echo, Infallible>;

/// One end of an in-memory connection: its input and its output.
struct Pipe(Bytes, Bytes);

impl Io for Pipe {
    type Error = Infallible;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Infallible> {
        let mut bytes = self.0.borrow_mut();
        let n = into.len().min(bytes.len());
        bytes.drain(..n).zip(into).for_each(|(byte, to)| *to = byte);
        Ok((n > 0).then_some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Infallible> {
        self.1.borrow_mut().extend(from);
        Ok(Some(from.len()))
    }

    fn shut_write(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn factory(name: &str, process: u8) -> SessionFactory {
    let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process_id);
    SessionFactory::new(Config::new(Scheme::Mutual(mutual)), Pools::default())
}

/// A client and a server, with the handshake done.
fn established() -> (Connection, Connection) {
    let key = Key::mutual(SECRET.as_bytes()).unwrap();
    let client = factory("client", 1).client(&Waker::noop().into(), NOW).unwrap();
    let server = factory("server", 2).server(&Waker::noop().into(), NOW).unwrap();
    let mut client = ServiceConnection::new(client, Echo);
    let mut server = ServiceConnection::new(server, Echo);
    let (up, down) = (Bytes::default(), Bytes::default());
    for _ in 0..10 {
        let _ = server.poll(&mut Pipe(up.clone(), down.clone()), &key, NOW);
        let _ = client.poll(&mut Pipe(down.clone(), up.clone()), &key, NOW);
    }
    assert!(client.driver().is_established() && server.driver().is_established());
    (client, server)
}

#[test]
fn keyring_holds_a_session_while_it_would_admit_it() {
    let keyring = |secret, roles, names| {
        let (id, roles) =
            (format!("id = \"default\"\nsecret = \"{secret}\""), format!("[{roles}]"));
        Keyring::parse(&format!("[[key]]\n{id}\nroles = {roles}\nnames = [{names}]\n")).unwrap()
    };
    for (secret, roles, names, holds) in [
        (SECRET, "\"server\"", "\"client\"", true),
        (SECRET, "\"client\"", "\"client\"", false),
        (SECRET, "\"server\"", "\"other\"", false),
        ("another secret, long enough", "\"server\"", "\"client\"", false),
    ] {
        let (_client, mut server) = established();
        let keyring = keyring(secret, roles, names);
        assert_eq!(server.driver_mut().revoke(&keyring, NOW), !holds, "{secret} {roles} {names}");
        let (mut io, removed) =
            (Pipe(Bytes::default(), Bytes::default()), CloseReason::Application);
        assert!(matches!(server.poll(&mut io, &keyring, NOW), Progress::Wait(_)));
        let error = (!holds).then_some(Error::Aborted(removed));
        assert_eq!(server.driver().error(), error, "{secret} {roles} {names}");
    }
}
