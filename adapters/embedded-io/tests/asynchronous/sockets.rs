//! The async client over TCP, with a blocking server.

use std::net::SocketAddr;
use std::time::Duration;

use countersign_embedded_io::asynchronous::{Client, Link};
use countersign_embedded_io::{
    Alert, ConnectionError, Error, Instant, Key, Reassembler, Session, SliceBuffer,
};
use countersign_host::Clock;
use embedded_hal_async::delay::DelayNs;
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::{Memory, Role, SECRET, echo_server, message, mutual, session, world::World};

/// The executor's timer.
struct Timer;

impl DelayNs for Timer {
    async fn delay_ns(&mut self, ns: u32) {
        tokio::time::sleep(Duration::from_nanos(ns.into())).await;
    }
}

type TcpLink<C> = Link<FromTokio<OwnedReadHalf>, FromTokio<OwnedWriteHalf>, C, Timer, 256>;

async fn connect<'s>(
    address: SocketAddr,
    session: &'s mut Session<Memory>,
    key: &Key,
) -> Result<
    countersign_embedded_io::Client<TcpLink<impl Fn() -> Instant + use<>>, &'s mut Session<Memory>>,
    ConnectionError<std::io::Error>,
> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (reader, writer) = stream.into_split();
    let clock = Clock::start();
    let (reader, writer) = (FromTokio::new(reader), FromTokio::new(writer));
    Client::connect(Link::new(reader, writer, move || clock.now(), Timer), session, key).await
}

#[tokio::test(flavor = "current_thread")]
async fn tcp_client_exchanges_messages_and_stays_alive() {
    let key = Key::mutual(SECRET).unwrap();
    let address = echo_server::start(key.clone());
    let mut session = session(mutual(Role::Client), Role::Client, &World::new(0));
    let mut client = connect(address, &mut session, &key).await.unwrap();
    assert_eq!(client.peer().unwrap().name, Some("server"));
    let mut memory = vec![0; 100_000];
    let mut received = Reassembler::new(SliceBuffer::new(&mut memory));
    for len in [1, 1_000, 100_000] {
        client.send(&message(len)).await.unwrap();
        assert_eq!(client.recv(&mut received).await.unwrap().unwrap(), message(len));
        // More than one heartbeat passes.
        let idle = tokio::time::timeout(Duration::from_millis(1_200), client.recv_chunk()).await;
        assert!(idle.is_err());
    }
    client.close().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn tcp_client_with_wrong_key_is_refused() {
    let address = echo_server::start(Key::mutual(SECRET).unwrap());
    let mut session = session(mutual(Role::Client), Role::Client, &World::new(0));
    let key = Key::mutual(b"another secret, 16 bytes or more").unwrap();
    let refused = connect(address, &mut session, &key).await.map(drop);
    let alert = Error::Alert(Alert::Refused);
    assert!(
        matches!(refused, Err(ConnectionError::Protocol(error)) if error == alert),
        "{refused:?}"
    );
}
