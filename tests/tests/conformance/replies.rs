//! Replies of several services, with every protocol, to the client of every adapter.

use std::fmt;
use std::thread;
use std::time::Duration;

use countersign_driver::services::{Echo, Upper};
use countersign_host::{
    Address, ConnectionHandle, MessageMemory, Messages, ServiceFactory, Streams,
};

use crate::adapters::{Adapter, CLIENTS, Client, Connect};
use crate::for_each_concurrently;
use crate::protocol_spec::ProtocolSpec;
use crate::server::{BUFFER, ServerSetup};
use crate::services::{Delay, DelayedUpper};

on_every_adapter! {
    chunks_are_echoed,
    chunks_are_returned_in_upper_case,
    messages_are_echoed,
    messages_are_returned_in_upper_case,
    replies_from_another_thread_arrive,
    delayed_replies_arrive,
}

/// Returns the reply that the service gives to a message.
type Reply = fn(&[u8]) -> Vec<u8>;

fn chunks_are_echoed<A: Adapter>() {
    test_all_clients::<A, _>(|| Streams(|_: ConnectionHandle| Echo), <[u8]>::to_vec);
}

fn chunks_are_returned_in_upper_case<A: Adapter>() {
    test_all_clients::<A, _>(|| Streams(|_: ConnectionHandle| Upper), <[u8]>::to_ascii_uppercase);
}

fn messages_are_echoed<A: Adapter>() {
    let services = || Messages::new(|_: ConnectionHandle| Echo, MessageMemory::default());
    test_all_clients::<A, _>(services, <[u8]>::to_vec);
}

fn messages_are_returned_in_upper_case<A: Adapter>() {
    let services = || Messages::new(|_: ConnectionHandle| Upper, MessageMemory::default());
    test_all_clients::<A, _>(services, <[u8]>::to_ascii_uppercase);
}

fn replies_from_another_thread_arrive<A: Adapter>() {
    let services = || Streams(|it: ConnectionHandle| DelayedUpper::new(Delay::Worker(it.waker())));
    test_all_clients::<A, _>(services, <[u8]>::to_ascii_uppercase);
}

fn delayed_replies_arrive<A: Adapter>() {
    let services =
        || Streams(|_: ConnectionHandle| DelayedUpper::new(Delay::Timer(Duration::from_millis(1))));
    test_all_clients::<A, _>(services, <[u8]>::to_ascii_uppercase);
}

/// Exchanges messages between the client of every adapter and a server of `A`, with every protocol,
/// over both transports.
fn test_all_clients<A: Adapter, O: ServiceFactory<Service: 'static> + 'static>(
    services: impl Fn() -> O + Sync,
    reply: Reply,
) {
    for_each_concurrently(ProtocolSpec::all(), |&spec| {
        let server = ServerSetup::new(spec).start::<A>(services());
        let mut cases = Vec::new();
        for (seed, address) in server.addresses.iter().enumerate() {
            for &(name, connect) in CLIENTS {
                cases.push(Case { name, connect, address, seed });
            }
        }
        for case in &cases {
            exchange(spec, case, reply);
        }
        server.wait_until_empty();
    });
}

struct Case<'a> {
    name: &'static str,
    connect: Connect,
    address: &'a Address,
    seed: usize,
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a client of {} to {}", self.name, self.address)
    }
}

/// Sends messages on one thread and receives the replies on another. Then both endpoints finish.
fn exchange(spec: ProtocolSpec, case: &Case<'_>, reply: Reply) {
    let lens = [1, 0, 5, BUFFER - 1, BUFFER, BUFFER + 1, 3, 5 * BUFFER, 1, 50_000];
    let messages: Vec<_> = lens.iter().map(|&len| letters(case.seed, len)).collect();
    let client = (case.connect)(case.address, &spec.client());
    let client = client.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            messages.iter().for_each(|message| client.send(message).unwrap());
            client.finish().unwrap();
        });
        if spec.has_messages() {
            for (number, message) in messages.iter().enumerate() {
                let received = client.recv().unwrap_or_else(|error| panic!("{case:?}: {error}"));
                assert!(received == Some(reply(message)), "{case:?}: message {number}");
            }
            assert_eq!(client.recv(), Ok(None), "{case:?}");
        } else {
            assert!(receive_all(&*client) == reply(&messages.concat()), "{case:?}");
        }
        sending.join().unwrap();
    });
}

/// Receives until the server has finished. Returns all bytes.
fn receive_all(client: &dyn Client) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = client.recv().unwrap() {
        all.extend(chunk);
    }
    all
}

/// Returns `len` lower-case letters that depend on `seed`.
fn letters(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((seed + at + at / 26) % 26) as u8).collect()
}
