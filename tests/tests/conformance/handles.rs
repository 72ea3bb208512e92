//! Messages sent through the handle of a connection.

use std::sync::mpsc::{Sender, channel};

use countersign::Error;
use countersign_driver::{Context, Service, ServiceError};
use countersign_host::{ConnectionHandle, HandleError, MessageMemory, Messages};

use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::ServerSetup;
use crate::socket_peer::{SocketPeer, frame};
use crate::{TEST_TIMEOUT, wait_until};

on_every_adapter! {
    queued_messages_are_sent_before_the_end,
    message_after_a_stop_does_not_disturb_the_end,
}

/// Longer than the socket buffers, in bytes.
const LONG: usize = 8 << 20;

/// Replies through the handle of its connection, and reports the end of the connection.
struct ReplyByHandle {
    handle: ConnectionHandle,
    end_sender: Sender<Result<(), Error>>,
}

impl Service for ReplyByHandle {
    fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
        self.handle.send(vec![7; LONG]).unwrap();
        self.handle.send(*b"last").unwrap();
        Ok(())
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.end_sender.send(result).unwrap();
    }
}

fn services(
    end_sender: Sender<Result<(), Error>>,
) -> Messages<impl Fn(ConnectionHandle) -> ReplyByHandle + Send + Sync> {
    let create = move |handle| ReplyByHandle { handle, end_sender: end_sender.clone() };
    Messages::new(create, MessageMemory::default())
}

fn queued_messages_are_sent_before_the_end<A: Adapter>() {
    let (end_sender, ends) = channel();
    let server = ServerSetup::new(ProtocolSpec::NONE)
        .with_system_buffers(4096)
        .start::<A>(services(end_sender));
    for address in &server.addresses {
        let peer = SocketPeer::with_buffers(address, Some(4096)).unwrap();
        peer.send(&frame(b"go"));
        peer.shut_write();
        assert_eq!(peer.read_frame(), vec![7; LONG]);
        assert_eq!(peer.read_frame(), b"last");
        assert_eq!(peer.read_to_end(), b"");
        assert_eq!(ends.recv_timeout(TEST_TIMEOUT), Ok(Ok(())));
    }
}

fn message_after_a_stop_does_not_disturb_the_end<A: Adapter>() {
    let (end_sender, ends) = channel();
    let server = ServerSetup::new(ProtocolSpec::NONE).start::<A>(services(end_sender));
    let peer = SocketPeer::connect(server.tcp());
    wait_until("the connection is open", || server.handle.connections().len() == 1);
    let connection = server.handle.connections().remove(0);
    server.handle.stop();
    // The server has finished.
    assert_eq!(peer.read_to_end(), b"");
    // The handle may not know yet that the server has finished.
    assert!(matches!(connection.send(*b"late"), Ok(()) | Err(HandleError::Closed)));
    peer.shut_write();
    assert_eq!(ends.recv_timeout(TEST_TIMEOUT), Ok(Ok(())));
    assert_eq!(connection.send(*b"later"), Err(HandleError::Closed));
}
