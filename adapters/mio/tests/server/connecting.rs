//! Outgoing connections of the loop.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use countersign::{CloseReason, Error};
use countersign_driver::Failure;
use countersign_host::{Address, ConnectionEnd};
use socket2::{Domain, Socket, Type};

use super::own_loop::{Call, Loop, next};
use super::{TIMEOUT, frame};

/// A listener, and its address.
fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, address)
}

/// The reported end of the only connection of `event_loop`.
fn end(event_loop: &mut Loop) -> ConnectionEnd {
    event_loop.until(|event_loop| event_loop.connections.is_empty());
    assert_eq!((event_loop.established, event_loop.ended.len()), (0, 1));
    event_loop.ended.pop().unwrap()
}

/// A listener whose queue is full: further connections have to wait.
fn full_listener() -> (Vec<Socket>, Address) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut all = vec![listener];
    for _ in 0..2 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        all.push(socket);
    }
    (all, address.as_socket().unwrap().to_string().parse().unwrap())
}

#[test]
fn outgoing_connection_is_served() {
    let (listener, address) = listen();
    let mut event_loop = Loop::new();
    let calls = event_loop.connect(&address, TIMEOUT, &Rc::new(())).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Message(b"hello".to_vec()));
    let mut reply = [0; 9];
    theirs.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..], frame(b"hello"));
}

#[test]
fn outgoing_unix_connection_is_served() {
    let path = std::env::temp_dir().join(format!("countersign-mio-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mut event_loop = Loop::new();
    let calls = event_loop.connect(&Address::Unix(path.clone()), TIMEOUT, &Rc::new(())).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut event_loop, &calls), Call::Message(b"hello".to_vec()));
}

#[test]
fn refused_connection_ends_with_the_system_error() {
    let (listener, address) = listen();
    drop(listener);
    let mut event_loop = Loop::new();
    // The system may report it at once.
    let kind = match event_loop.connect(&address, TIMEOUT, &Rc::new(())) {
        Err(error) => error.kind(),
        Ok(calls) => {
            assert_eq!(next(&mut event_loop, &calls), Call::Closed(Err(Error::Transport)));
            let ended = end(&mut event_loop);
            assert!(!ended.established);
            let Err(Failure::Io(error)) = ended.result else { panic!("{ended:?}") };
            error.kind()
        }
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
}

#[test]
fn connection_attempt_times_out() {
    let (_sockets, address) = full_listener();
    let mut event_loop = Loop::new();
    let held = Rc::new(());
    let calls = event_loop.connect(&address, std::time::Duration::from_millis(50), &held).unwrap();
    // `on_open` is not called.
    assert_eq!(next(&mut event_loop, &calls), Call::Closed(Err(Error::Transport)));
    let ended = end(&mut event_loop);
    let Err(Failure::Io(error)) = ended.result else { panic!("{ended:?}") };
    assert_eq!((error.kind(), Rc::strong_count(&held)), (ErrorKind::TimedOut, 1));
}

#[test]
fn stop_abandons_a_connection_attempt() {
    let (_sockets, address) = full_listener();
    let mut event_loop = Loop::new();
    let calls = event_loop.connect(&address, TIMEOUT, &Rc::new(())).unwrap();
    event_loop.settle();
    event_loop.connections.stop();
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(next(&mut event_loop, &calls), Call::Closed(Err(shutdown)));
    let ended = end(&mut event_loop);
    assert!(
        matches!(ended.result, Err(Failure::Protocol(error)) if error == shutdown),
        "{ended:?}"
    );
}
