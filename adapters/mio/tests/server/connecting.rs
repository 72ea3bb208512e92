//! Connections that are made in the loop.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use countersign::{CloseReason, Error};
use countersign_driver::Failure;
use countersign_host::{Address, Ended};
use socket2::{Domain, Socket, Type};

use super::neighbour::{Call, Loop, next};
use super::{PATIENCE, frame};

/// A listener, and its address.
fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, address)
}

/// How the only connection of `looped` has ended, as its service heard and its owner did.
fn end(looped: &mut Loop) -> Ended {
    looped.until(|looped| looped.connections.is_empty());
    assert_eq!((looped.established, looped.ended.len()), (0, 1));
    looped.ended.pop().unwrap()
}

/// More is connected to it than it takes: whoever comes now has to wait.
fn crowded() -> (Vec<Socket>, Address) {
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
fn a_connection_is_made_in_the_loop_and_served_like_any_other() {
    let (listener, address) = listen();
    let mut looped = Loop::new();
    let told = looped.connect(&address, PATIENCE, &Rc::new(())).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    assert_eq!(next(&mut looped, &told), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut looped, &told), Call::Message(b"hello".to_vec()));
    let mut answer = [0; 9];
    theirs.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..], frame(b"hello"));
}

#[test]
fn a_connection_to_a_unix_socket_is_made_in_the_loop() {
    let path = std::env::temp_dir().join(format!("countersign-mio-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mut looped = Loop::new();
    let told = looped.connect(&Address::Unix(path.clone()), PATIENCE, &Rc::new(())).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(next(&mut looped, &told), Call::Open);
    theirs.write_all(&frame(b"hello")).unwrap();
    assert_eq!(next(&mut looped, &told), Call::Message(b"hello".to_vec()));
}

#[test]
fn where_nobody_listens_the_connection_ends_with_the_systems_error() {
    let (listener, address) = listen();
    drop(listener);
    let mut looped = Loop::new();
    // The system may know it at once.
    let kind = match looped.connect(&address, PATIENCE, &Rc::new(())) {
        Err(error) => error.kind(),
        Ok(told) => {
            assert_eq!(next(&mut looped, &told), Call::Closed(Err(Error::Transport)));
            let ended = end(&mut looped);
            assert!(!ended.established && ended.origin.to_string() == address.to_string());
            let Err(Failure::Io(error)) = ended.how else { panic!("{ended:?}") };
            error.kind()
        }
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
}

#[test]
fn a_connection_that_is_not_made_in_time_is_given_up() {
    let (_crowd, address) = crowded();
    let mut looped = Loop::new();
    let held = Rc::new(());
    let told = looped.connect(&address, std::time::Duration::from_millis(50), &held).unwrap();
    // Its service is not told of a peer that there is not.
    assert_eq!(next(&mut looped, &told), Call::Closed(Err(Error::Transport)));
    let ended = end(&mut looped);
    let Err(Failure::Io(error)) = ended.how else { panic!("{ended:?}") };
    assert_eq!((error.kind(), Rc::strong_count(&held)), (ErrorKind::TimedOut, 1));
}

#[test]
fn a_connection_that_is_being_made_is_given_up_when_all_stop() {
    let (_crowd, address) = crowded();
    let mut looped = Loop::new();
    let told = looped.connect(&address, PATIENCE, &Rc::new(())).unwrap();
    looped.settle();
    looped.connections.stop();
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert_eq!(next(&mut looped, &told), Call::Closed(Err(shutdown)));
    let ended = end(&mut looped);
    assert!(matches!(ended.how, Err(Failure::Protocol(error)) if error == shutdown), "{ended:?}");
}
