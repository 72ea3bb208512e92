//! Real sockets and our server's event loop.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use countersign::{Alert, Config, Error, Key, Role, Scheme};
use countersign_driver::services::Echo;
use countersign_embedded_io::asynchronous::{Client, Link};
use countersign_embedded_io::{ClientError, Message};
use countersign_host::{
    Address, Clock, PeerAddr, PoolOptions, Pools, ServerOptions, SessionFactory, process_id,
};
use countersign_mio::Server;
use embedded_hal_async::delay::DelayNs;
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::net::TcpStream;

use crate::{SECRET, message, mutual, session, world::World};

/// The executor's timer.
struct Timer;

impl DelayNs for Timer {
    async fn delay_ns(&mut self, ns: u32) {
        tokio::time::sleep(Duration::from_nanos(ns.into())).await;
    }
}

/// Where our server listens, which echoes and whose heart beats every second.
fn server() -> String {
    let Scheme::Mutual(mutual) = mutual(Role::Server) else { unreachable!() };
    let config = Config::new(Scheme::Mutual(mutual)).with_process_id(process_id().unwrap());
    let protocol = Arc::new(SessionFactory::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(SECRET).unwrap());
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let at = listeners[0].address().unwrap().to_string();
    let open = |_: &PeerAddr, _| Echo;
    let mut server =
        Server::new(listeners, protocol, keys, open, ServerOptions::default()).unwrap();
    thread::spawn(move || server.run());
    at
}

#[tokio::test(flavor = "current_thread")]
async fn over_tcp_messages_come_back_and_an_idle_line_stays() {
    let stream = TcpStream::connect(server()).await.unwrap();
    let (reader, writer) = stream.into_split();
    let clock = Clock::start();
    let link: Link<_, _, _, _, 256> =
        Link::new(FromTokio::new(reader), FromTokio::new(writer), move || clock.now(), Timer);
    let mut session = session(mutual(Role::Client), Role::Client, &World::new(0));
    let key = Key::mutual(SECRET).unwrap();
    let mut client = Client::connect(link, &mut session, &key).await.unwrap();
    assert_eq!(client.peer().unwrap().name, Some("server"));
    let mut buffer = vec![0; 100_000];
    for len in [1, 1_000, 100_000] {
        client.send(&message(len)).await.unwrap();
        let mut received = Message::new(&mut buffer);
        assert_eq!(client.recv(&mut received).await.unwrap().unwrap(), message(len));
        // More than one heartbeat passes.
        let idle = tokio::time::timeout(Duration::from_millis(1_200), client.recv_chunk()).await;
        assert!(idle.is_err());
    }
    client.close().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn over_tcp_a_wrong_key_is_refused() {
    let stream = TcpStream::connect(server()).await.unwrap();
    let (reader, writer) = stream.into_split();
    let clock = Clock::start();
    let (reader, writer) = (FromTokio::new(reader), FromTokio::new(writer));
    let link: Link<_, _, _, _, 64> = Link::new(reader, writer, move || clock.now(), Timer);
    let mut session = session(mutual(Role::Client), Role::Client, &World::new(0));
    let key = Key::mutual(b"something else altogether").unwrap();
    let refused = Client::connect(link, &mut session, &key).await.map(drop);
    let alert = Error::Alert(Alert::Refused);
    assert!(matches!(refused, Err(ClientError::Protocol(error)) if error == alert), "{refused:?}");
}
