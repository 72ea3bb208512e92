//! Accepting connections.

#![cfg(test)]

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use std::{env, fs, process, thread};

use countersign::Key;
use countersign_host::{
    Acceptor, Address, ConnectionLimit, Incoming, ServerContext, ServerHandle, ServerOptions,
    SessionFactory, Stream, WakeQueue,
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// The sockets of a test: over Unix sockets a connection waits in its queue as soon as it is made.
struct Sockets(Vec<Address>);

impl Sockets {
    fn new(test: &str, count: usize) -> Self {
        let path = |n| format!("unix:{}/{test}-{}-{n}", env::temp_dir().display(), process::id());
        Self((0..count).map(|n| path(n).parse().unwrap()).collect())
    }

    fn acceptor(&self, options: ServerOptions) -> Acceptor {
        let listeners = self.0.iter().flat_map(|it| it.listen(1).unwrap()).collect();
        let handle = ServerHandle::of_loop(WakeQueue::new(Waker::noop().clone()));
        let key = Key::mutual(b"a key of 16 bytes or more").unwrap();
        let factory = Arc::new(SessionFactory::mutual("server").unwrap());
        Acceptor::new(listeners, ServerContext::new(factory, key.into(), options, handle))
    }

    fn connect(&self, index: usize, count: usize) -> Vec<Stream> {
        (0..count).map(|_| self.0[index].connect(TIMEOUT).unwrap()).collect()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for address in &self.0 {
            let Address::Unix(path) = address else { continue };
            let _ = fs::remove_file(format!("{}.lock", path.display()));
        }
    }
}

fn ready() -> io::Result<()> {
    Ok(())
}

#[test]
fn listeners_take_turns() {
    let sockets = Sockets::new("turns", 2);
    let mut acceptor = sockets.acceptor(ServerOptions::default());
    let _clients = [sockets.connect(0, 3), sockets.connect(1, 3)];
    let mut order = Vec::new();
    while let Incoming::Connection(accepted) = acceptor.poll(ready) {
        let Stream::Unix(stream) = accepted.stream else { panic!("not a Unix socket") };
        let at = Address::Unix(stream.local_addr().unwrap().as_pathname().unwrap().into());
        order.push(sockets.0.iter().position(|it| *it == at).unwrap());
    }
    assert_eq!(order.len(), 6);
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[test]
fn many_rejected_connections_are_followed_by_a_yield() {
    let sockets = Sockets::new("rejected", 2);
    let mut options = ServerOptions::default();
    options.connection_limit = ConnectionLimit::new(0);
    let mut acceptor = sockets.acceptor(options);
    let _clients = sockets.connect(0, 65);
    assert!(matches!(acceptor.poll(ready), Incoming::Yield));
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
}

#[test]
fn connection_waits_while_nothing_can_be_prepared() {
    let sockets = Sockets::new("prepare", 1);
    let mut acceptor = sockets.acceptor(ServerOptions::default());
    let _clients = sockets.connect(0, 1);
    let shortage = || Err::<(), _>(ErrorKind::OutOfMemory.into());
    let Incoming::Wait(Some(until)) = acceptor.poll(shortage) else { panic!("not paused") };
    while acceptor.context().now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(acceptor.poll(ready), Incoming::Connection(_)));
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
}

#[test]
fn empty_listener_is_tried_once_it_is_reported_readable() {
    let sockets = Sockets::new("readable", 2);
    let mut acceptor = sockets.acceptor(ServerOptions::default());
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
    assert_eq!(acceptor.empty().count(), 2);
    let _clients = sockets.connect(1, 2);
    acceptor.set_ready(0);
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
    acceptor.set_ready(1);
    assert!(matches!(acceptor.poll(ready), Incoming::Connection(_)));
    assert!(matches!(acceptor.poll(ready), Incoming::Connection(_)));
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
}

#[test]
fn listener_that_cannot_be_waited_for_pauses_alone() {
    let sockets = Sockets::new("pause", 2);
    let mut acceptor = sockets.acceptor(ServerOptions::default());
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(None)));
    assert_eq!(acceptor.poll_ready(|_| Poll::Pending), Poll::Pending);
    let _clients = sockets.connect(1, 1);
    let mut results = [Err(ErrorKind::OutOfMemory.into()), Ok(())].into_iter();
    assert_eq!(acceptor.poll_ready(|_| Poll::Ready(results.next().unwrap())), Poll::Ready(()));
    assert!(matches!(acceptor.poll(ready), Incoming::Connection(_)));
    assert!(matches!(acceptor.poll(ready), Incoming::Wait(Some(_))));
}

#[test]
fn stopped_server_closes_its_listeners() {
    let sockets = Sockets::new("stop", 1);
    let mut acceptor = sockets.acceptor(ServerOptions::default());
    assert_eq!(acceptor.local_addresses().unwrap(), sockets.0);
    acceptor.context().handle().stop();
    assert!(matches!(acceptor.poll(ready), Incoming::Stopped));
    assert!(acceptor.local_addresses().unwrap().is_empty());
    let refused = sockets.0[0].connect(TIMEOUT).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
}
