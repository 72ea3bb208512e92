//! A server over TCP: a thread with a blocking link and whole messages in lent memory.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use countersign_embedded_io::blocking::Link;
use countersign_embedded_io::services::Echo;
use countersign_embedded_io::{
    Buffers, Config, Instant, Interest, Key, MessageService, Mutual, Nonce, ProcessId, Scheme,
    ServiceConnection, Session, SliceBuffer,
};
use countersign_host::Clock;

#[path = "../../examples/socket/socket.rs"]
pub(crate) mod socket;

use socket::Socket;

/// The longest message that the server takes, in bytes.
const MAX_MESSAGE: usize = 100_000;

/// `mutual` with a heartbeat of 1 s.
pub(crate) fn mutual(name: &str, process: u8) -> Scheme {
    let process = ProcessId::from_bytes(&[process; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process);
    Scheme::Mutual(mutual.with_heartbeat(Duration::from_secs(1)))
}

/// A blocking link over a socket.
pub(crate) fn link(
    stream: TcpStream,
    clock: Clock,
) -> Link<Socket, impl Fn() -> Instant + use<>, impl FnMut(Interest) + use<>> {
    let socket = Socket::new(stream).unwrap();
    let handle = socket.try_clone().unwrap();
    Link::new(socket, move || clock.now(), move |interest| handle.wait(interest, clock.now()))
        .with_shut(Socket::shut)
}

/// Starts a server that echoes the messages of one connection.
pub(crate) fn start(key: Key) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let clock = Clock::start();
        let config = Config::new(mutual("server", 9));
        let buffers = Buffers { handshake: [0; 512], receive: [0; 512], send: [0; 512] };
        let nonce = Nonce::from_bytes([9; Nonce::LEN]);
        let mut session = Session::server(&config, nonce, buffers, clock.now()).unwrap();
        // A queued message has a header of 16 bytes.
        let mut memory = [(); 2].map(|()| vec![0; MAX_MESSAGE + 16]);
        let [incoming, outgoing] = memory.each_mut().map(|memory| SliceBuffer::new(memory));
        let service = MessageService::new(Echo, incoming, outgoing);
        let mut connection = ServiceConnection::new(&mut session, service);
        // The tests check the result at the client.
        let _ = link(stream, clock).run(&mut connection, &key);
    });
    address
}
