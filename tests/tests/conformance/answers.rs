//! Everybody's answers, whatever is spoken, and each client with each server.

use std::fmt;
use std::thread;
use std::time::Duration;

use countersign_driver::services::{Echo, Upper};
use countersign_host::{
    Address, ConnectionHandle, MessageMemory, Messages, ServiceFactory, Streams,
};

use crate::adapters::{Adapter, CLIENTS, Client, Connect};
use crate::at_once;
use crate::running::{BUFFER, Setup};
use crate::services::{How, Later};
use crate::ways::Way;

on_every_adapter! {
    echo_in_chunks,
    upper_in_chunks,
    echo_of_whole_messages,
    upper_of_whole_messages,
    a_gateway_whose_answers_another_thread_gives,
    a_service_that_takes_its_time,
}

/// Answers in capitals, or as it was asked.
type Answer = fn(&[u8]) -> Vec<u8>;

fn echo_in_chunks<A: Adapter>() {
    talk_to_each::<A, _>(|| Streams(|_: ConnectionHandle| Echo), <[u8]>::to_vec);
}

fn upper_in_chunks<A: Adapter>() {
    talk_to_each::<A, _>(|| Streams(|_: ConnectionHandle| Upper), <[u8]>::to_ascii_uppercase);
}

fn echo_of_whole_messages<A: Adapter>() {
    let services = || Messages::new(|_: ConnectionHandle| Echo, MessageMemory::default());
    talk_to_each::<A, _>(services, <[u8]>::to_vec);
}

fn upper_of_whole_messages<A: Adapter>() {
    let services = || Messages::new(|_: ConnectionHandle| Upper, MessageMemory::default());
    talk_to_each::<A, _>(services, <[u8]>::to_ascii_uppercase);
}

fn a_gateway_whose_answers_another_thread_gives<A: Adapter>() {
    let open = || Streams(|it: ConnectionHandle| Later::new(How::Worker(it.waker())));
    talk_to_each::<A, _>(open, <[u8]>::to_ascii_uppercase);
}

fn a_service_that_takes_its_time<A: Adapter>() {
    let open = || Streams(|_: ConnectionHandle| Later::new(How::Timer(Duration::from_millis(1))));
    talk_to_each::<A, _>(open, <[u8]>::to_ascii_uppercase);
}

/// Has each client talk to a server of `A`, in every way, over both transports.
fn talk_to_each<A: Adapter, O: ServiceFactory<Service: 'static> + 'static>(
    open: impl Fn() -> O + Sync,
    answer: Answer,
) {
    at_once(Way::all(), |&way| {
        let server = Setup::new(way).start::<A>(open());
        let mut cases = Vec::new();
        for (at, address) in server.at.iter().enumerate() {
            for &(name, connect) in CLIENTS {
                cases.push(Case { name, connect, address, seed: at });
            }
        }
        for case in &cases {
            talk(way, case, answer);
        }
        server.until_empty();
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

/// One thread sends and another receives, neither waiting for the other, and then both ends finish.
fn talk(way: Way, case: &Case<'_>, answer: Answer) {
    let lens = [1, 0, 5, BUFFER - 1, BUFFER, BUFFER + 1, 3, 5 * BUFFER, 1, 50_000];
    let messages: Vec<_> = lens.iter().map(|&len| letters(case.seed, len)).collect();
    let client = (case.connect)(case.address, &way.client());
    let client = client.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            messages.iter().for_each(|message| client.send(message).unwrap());
            client.finish().unwrap();
        });
        if way.has_messages() {
            for (number, message) in messages.iter().enumerate() {
                let heard = client.recv().unwrap_or_else(|error| panic!("{case:?}: {error}"));
                assert!(heard == Some(answer(message)), "{case:?}: message {number}");
            }
            assert_eq!(client.recv(), Ok(None), "{case:?}");
        } else {
            assert!(all(&*client) == answer(&messages.concat()), "{case:?}");
        }
        sending.join().unwrap();
    });
}

/// All that comes.
fn all(client: &dyn Client) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(part) = client.recv().unwrap() {
        all.extend(part);
    }
    all
}

/// Small letters that are not all alike.
fn letters(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((seed + at + at / 26) % 26) as u8).collect()
}
