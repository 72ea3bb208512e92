//! Messages that others send by the handle of a connection.

use std::sync::mpsc::{Sender, channel};

use countersign::Error;
use countersign_driver::{Context, Service, ServiceError};
use countersign_host::{ConnectionHandle, HandleError, MessageMemory, Messages};

use crate::adapters::Adapter;
use crate::peer::{Peer, frame};
use crate::running::Setup;
use crate::ways::Way;
use crate::{PATIENCE, until};

on_every_adapter! {
    queued_messages_precede_the_end_that_answers_the_peers,
    message_after_a_stop_leaves_the_end_in_order,
}

/// More than the buffers of the system hold.
const LONG: usize = 8 << 20;

/// Answers by its handle, and reports how its connection ended.
struct Pushing {
    handle: ConnectionHandle,
    ended: Sender<Result<(), Error>>,
}

impl Service for Pushing {
    fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
        self.handle.send(vec![7; LONG]).unwrap();
        self.handle.send(*b"last").unwrap();
        Ok(())
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.ended.send(result).unwrap();
    }
}

fn services(
    ended: Sender<Result<(), Error>>,
) -> Messages<impl Fn(ConnectionHandle) -> Pushing + Send + Sync> {
    let create = move |handle| Pushing { handle, ended: ended.clone() };
    Messages::new(create, MessageMemory::default())
}

fn queued_messages_precede_the_end_that_answers_the_peers<A: Adapter>() {
    let (ended, how) = channel();
    let server = Setup::new(Way::FRAMES).with_system_buffers(4096).start::<A>(services(ended));
    for at in &server.at {
        let peer = Peer::with_buffers(at, Some(4096)).unwrap();
        peer.send(&frame(b"go"));
        peer.finish();
        assert_eq!(peer.hear(), vec![7; LONG]);
        assert_eq!(peer.hear(), b"last");
        assert_eq!(peer.remaining(), b"");
        assert_eq!(how.recv_timeout(PATIENCE), Ok(Ok(())));
    }
}

fn message_after_a_stop_leaves_the_end_in_order<A: Adapter>() {
    let (ended, how) = channel();
    let server = Setup::new(Way::FRAMES).start::<A>(services(ended));
    let peer = Peer::connect(server.tcp());
    until("it is open", || server.handle.connections().len() == 1);
    let connection = server.handle.connections().remove(0);
    server.handle.stop();
    // The server has finished.
    assert_eq!(peer.remaining(), b"");
    // It may not know yet that nobody takes it.
    assert!(matches!(connection.send(*b"late"), Ok(()) | Err(HandleError::Closed)));
    peer.finish();
    assert_eq!(how.recv_timeout(PATIENCE), Ok(Ok(())));
    assert_eq!(connection.send(*b"later"), Err(HandleError::Closed));
}
