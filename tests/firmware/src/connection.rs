//! The connection to the server over the UART, and what the programs do with it.

use core::ops::DerefMut;
use core::time::Duration;

use cortex_m::singleton;
use countersign::{Buffers, Instant, Protocol, Session};
use countersign_embedded_io::blocking::{Client, Link};
use countersign_embedded_io::{ConnectionError, Interest};

use crate::board;
use crate::exit;
use crate::semihosting;
use crate::uart::Uart;

/// The serial line to the server.
pub type UartLink = Link<Uart, fn() -> Instant, fn(Interest)>;
/// A client on the serial line.
pub type UartClient<P> = Client<Uart, fn() -> Instant, fn(Interest), P>;
/// A session with buffers in static memory, so that moving it does not copy them.
pub type StaticSession = Session<&'static mut [u8]>;

/// Opens the serial line on the UART.
pub fn uart_link() -> UartLink {
    Link::new(Uart::take(), board::now, |_| board::sleep_until_input())
}

/// The buffers of one session: 512 bytes to receive, 512 to send. `None` from the second call on.
pub fn static_buffers() -> Option<Buffers<&'static mut [u8]>> {
    let buffers = singleton!(: [[u8; 512]; 2] = [[0; 512]; 2])?;
    let [receive, send] = buffers.each_mut().map(|buffer| &mut buffer[..]);
    // The longest handshake buffer that any scheme needs.
    let handshake = singleton!(: [u8; 1024] = [0; 1024])?;
    Some(Buffers { handshake, receive, send })
}

/// Length of the longest message in bytes.
pub const MAX_MESSAGE: usize = 3000;

/// Sends a message of each length in `lengths`, and checks that the server echoes it.
pub fn check_echo<P: DerefMut<Target: Protocol>>(
    client: &mut UartClient<P>,
    message_buffer: &mut [u8; MAX_MESSAGE],
    lengths: &[usize],
) {
    for &len in lengths {
        let message = &mut message_buffer[..len];
        for (i, byte) in message.iter_mut().enumerate() {
            *byte = (i * 31 + len) as u8;
        }
        client.send(message).unwrap_or_else(|error| exit::ended(error));
        // A raw stream has no message boundaries: the echo is complete when its length has arrived.
        let mut expected = &message[..];
        loop {
            match client.recv_chunk() {
                Ok(Some(chunk)) if expected.starts_with(chunk.bytes) => {
                    expected = &expected[chunk.bytes.len()..];
                }
                Ok(_) => exit::wrong("answer"),
                Err(error) => exit::ended(error),
            }
            if expected.is_empty() {
                break;
            }
        }
        semihosting::print("answered");
        semihosting::print_number(len as u32);
        semihosting::end_line("");
    }
}

/// Waits for the connection to fail, and ends the program.
pub fn wait_for_failure<P: DerefMut<Target: Protocol>>(client: &mut UartClient<P>) -> ! {
    semihosting::end_line("waiting");
    match client.recv_chunk() {
        Ok(_) => exit::wrong("message"),
        Err(error) => exit::ended(error),
    }
}

/// Keeps the idle connection open for `seconds`.
pub fn stay_idle<P: DerefMut<Target: Protocol>>(client: &mut UartClient<P>, seconds: u32) {
    client.set_timeout(Some(Duration::from_secs(seconds.into())));
    match client.recv_chunk() {
        Err(ConnectionError::TimedOut) => {}
        Ok(_) => exit::wrong("message"),
        Err(error) => exit::ended(error),
    }
    client.set_timeout(None);
    semihosting::print("idle");
    semihosting::print_number(seconds);
    semihosting::end_line("");
}
