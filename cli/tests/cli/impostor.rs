//! A server that sends well-formed messages of the scheme mutual without holding the key.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use crate::common::ServerAddr;

/// Starts the impostor for one connection. The thread returns what the client sends after the impostor's
/// invalid proof.
pub(crate) fn start() -> (ServerAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = ServerAddr::Tcp(listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut m1 = b"\0\0\0\x29\x01CSGN\x01\x01\x01\x01".to_vec();
        m1.extend([0x42; 32]);
        stream.write_all(&m1).unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut m2 = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut m2).unwrap();
        // The length and the fields of a valid M3; only the proof is wrong.
        let mut m3 = b"\0\0\0\x40\x03\x06server".to_vec();
        m3.extend([0xd4; 16]);
        m3.extend(16401_u32.to_be_bytes());
        m3.extend(15000_u32.to_be_bytes());
        m3.extend([0x17; 32]);
        stream.write_all(&m3).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    (at, thread)
}
