//! What the programs do with a connection.

use core::ops::DerefMut;
use core::time::Duration;

use cortex_m::singleton;
use countersign::{Buffers, Instant, Protocol, Session};
use countersign_driver::Wait;
use countersign_embedded_io::ClientError;
use countersign_embedded_io::blocking::{Client, Link};

use crate::board::{self, Uart};
use crate::{exit, host, stack};

/// The line to the server.
pub type Line = Link<Uart, fn() -> Instant, fn(Wait)>;
/// A conversation over it.
pub type Talk<M> = Client<Uart, fn() -> Instant, fn(Wait), M>;

/// Over the first UART.
pub fn line() -> Line {
    Link::new(Uart::take(), board::now, |_| board::pause())
}

/// A session whose buffers are elsewhere: it is made on the stack and then moved, and they are not.
pub type Memory = Session<&'static mut [u8]>;

/// The buffers of one session. Once.
pub fn buffers() -> Option<Buffers<&'static mut [u8]>> {
    let memory = singleton!(: [[u8; 512]; 2] = [[0; 512]; 2])?;
    let [receive, send] = memory.each_mut().map(|buffer| &mut buffer[..]);
    // As long as the scheme that needs the longest wants it.
    let handshake = singleton!(: [u8; 1024] = [0; 1024])?;
    Some(Buffers { handshake, receive, send })
}

/// Says why there is no connection, and ends.
pub fn refused<E>(error: ClientError<E>) -> ! {
    host::print("refused");
    end(error, exit::REFUSED)
}

/// Says why the connection has ended, and ends.
pub fn ended<E>(error: ClientError<E>) -> ! {
    host::print("ended");
    end(error, exit::ENDED)
}

fn end<E>(error: ClientError<E>, code: u32) -> ! {
    host::line(match error {
        ClientError::Protocol(error) => error.code(),
        ClientError::Io(_) => "io",
        ClientError::Send(_) => "send",
        ClientError::TooLong => "too-long",
        ClientError::TimedOut => "timed-out",
    });
    host::exit(code)
}

/// Says what was wrong with what was said, and ends.
pub fn wrong(what: &str) -> ! {
    host::print("wrong");
    host::line(what);
    host::exit(exit::WRONG)
}

/// The end of a test in which all went well.
pub fn done() -> ! {
    host::print("stack");
    host::number(stack::deepest());
    host::line("");
    host::line("done");
    host::exit(exit::DONE)
}

/// The longest message of a test.
pub const LONGEST: usize = 3000;

/// Sends messages of these lengths; each has to come back.
pub fn exchange<M: DerefMut<Target: Protocol>>(
    client: &mut Talk<M>,
    room: &mut [u8; LONGEST],
    lengths: &[usize],
) {
    for &len in lengths {
        let message = &mut room[..len];
        for (i, byte) in message.iter_mut().enumerate() {
            *byte = (i * 31 + len) as u8;
        }
        client.send(message).unwrap_or_else(|error| ended(error));
        // Of a byte stream, it has come back when as much has come.
        let mut left = &message[..];
        loop {
            match client.recv_chunk() {
                Ok(Some(part)) if left.starts_with(part.bytes) => left = &left[part.bytes.len()..],
                Ok(_) => wrong("answer"),
                Err(error) => ended(error),
            }
            if left.is_empty() {
                break;
            }
        }
        host::print("answered");
        host::number(len as u32);
        host::line("");
    }
}

/// Waits for the end of a connection that will not end in order.
pub fn wait<M: DerefMut<Target: Protocol>>(client: &mut Talk<M>) -> ! {
    host::line("waiting");
    match client.recv_chunk() {
        Ok(_) => wrong("message"),
        Err(error) => ended(error),
    }
}

/// Waits at an idle line for so many seconds.
pub fn idle<M: DerefMut<Target: Protocol>>(client: &mut Talk<M>, seconds: u32) {
    client.set_timeout(Some(Duration::from_secs(seconds.into())));
    match client.recv_chunk() {
        Err(ClientError::TimedOut) => {}
        Ok(_) => wrong("message"),
        Err(error) => ended(error),
    }
    client.set_timeout(None);
    host::print("idle");
    host::number(seconds);
    host::line("");
}
