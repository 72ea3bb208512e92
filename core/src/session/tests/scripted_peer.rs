//! An authenticated peer that may send any frame, encoded independently of the code under test.

use super::pair::*;
use super::*;
use crate::crypto::mac;
use crate::handshake::{HandshakeBuffer, HandshakeOutput};

// Frame types (docs/PROTOCOL.md, "sealed").
pub(super) const DATA: u8 = 0x00;
pub(super) const PING: u8 = 0x01;
pub(super) const PONG: u8 = 0x02;
pub(super) const PARTIAL: u8 = 0x03;
pub(super) const FIN: u8 = 0x04;
pub(super) const CLOSE: u8 = 0x05;

/// An authenticated peer whose frames the test chooses.
pub(super) struct ScriptedPeer {
    send: [u8; 32],
    receive: [u8; 32],
    tagged: bool,
    sent: u64,
    received: u64,
}

impl ScriptedPeer {
    fn new(output: HandshakeOutput) -> Self {
        let sealing = output.sealing.unwrap();
        let (send, receive) = (*sealing.send, *sealing.receive);
        Self { send, receive, tagged: sealing.tagged, sent: 0, received: 0 }
    }

    fn tag(&self, key: &[u8; 32], seq: u64, frame: &[u8]) -> Vec<u8> {
        let len = if self.tagged { 16 } else { 0 };
        mac::sha256(key, &[&seq.to_be_bytes(), frame])[..len].to_vec()
    }

    /// Encodes the next frame, of any type.
    pub(super) fn frame(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let n = (1 + payload.len() + if self.tagged { 16 } else { 0 }) as u32;
        let mut frame = [&n.to_be_bytes()[..], &[kind], payload].concat();
        frame.extend(self.tag(&self.send, self.sent, &frame));
        self.sent += 1;
        frame
    }

    /// Transmits all that `endpoint` has pending and decodes it.
    pub(super) fn receive_from(&mut self, endpoint: &mut Endpoint) -> Vec<(u8, Vec<u8>)> {
        self.decode(&endpoint.transmit_all())
    }

    /// Decodes `bytes`, which must be whole frames in order, into types and payloads.
    pub(super) fn decode(&mut self, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
            let n = u32::from_be_bytes(*header) as usize;
            let tag = if self.tagged { 16 } else { 0 };
            assert!(rest.len() >= n, "partial frame");
            let (frame, rest) = bytes.split_at(4 + n);
            let (frame, tag) = frame.split_at(4 + n - tag);
            assert_eq!(self.tag(&self.receive, self.received, frame), tag);
            self.received += 1;
            frames.push((frame[4], frame[5..].to_vec()));
            bytes = rest;
        }
        assert_eq!(bytes, b"", "partial header");
        frames
    }
}

/// An endpoint that is established with a scripted peer.
pub(super) fn with_scripted_peer(
    config: &Config,
    role: Role,
    peer: &Config,
) -> (Endpoint, ScriptedPeer) {
    connect_scripted_peer(Endpoint::sealed(config, role), peer, 256)
}

/// Establishes `endpoint` with a scripted peer that accepts frames of `max_frame` bytes.
pub(super) fn connect_scripted_peer(
    mut endpoint: Endpoint,
    peer: &Config,
    max_frame: u32,
) -> (Endpoint, ScriptedPeer) {
    let role = match endpoint.session.role() {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    let mut buffer = HandshakeBuffer::new(vec![0; 1024], peer.scheme());
    let mut handshake = Handshake::new(peer, role, nonce(), max_frame, &mut buffer).unwrap();
    let mut step = |buffer: &mut HandshakeBuffer<_>, input: Input<'_>| {
        let placeholder = Handshake::Complete { authenticated: false };
        let (received, mut out) = buffer.split();
        let before = core::mem::replace(&mut handshake, placeholder);
        handshake = before.step(input, received, &mut out).unwrap();
        let key_needed = handshake.key_purpose().is_some();
        (handshake.want(), key_needed, handshake.is_over().then(|| handshake.output(buffer.view())))
    };
    let channel = [0x0c; 32];
    endpoint.session.bind_channel(&channel, endpoint.now);
    let (mut want, mut key_needed, mut output) = step(&mut buffer, Input::Channel(&channel));
    let shared_key = mutual_key();
    let mut received = Vec::new();
    let mut events = Vec::new();
    for _ in 0..100 {
        let transmitted = buffer.pending().to_vec();
        buffer.handle_transmitted(transmitted.len());
        events.extend(endpoint.deliver(&transmitted));
        received.extend(endpoint.transmit_all());
        events.extend(endpoint.poll_with_key());
        if let Some(output) = output {
            assert_eq!(events, [Event::Established]);
            assert_eq!(received, b"");
            return (endpoint, ScriptedPeer::new(output.unwrap()));
        }
        let input = if key_needed {
            Input::Key(Ok(Candidates::one(&shared_key)))
        } else {
            let n = buffer.space(want).len();
            assert!(received.len() >= n, "the handshake has stalled");
            buffer.space(want).copy_from_slice(&received[..n]);
            buffer.commit(n);
            received.drain(..n);
            Input::Received
        };
        (want, key_needed, output) = step(&mut buffer, input);
    }
    panic!("the handshake does not end");
}
