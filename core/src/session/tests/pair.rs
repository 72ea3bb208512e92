//! Ends of the scheme `mutual`, and a peer that may say anything.

use super::*;
use crate::config::Mutual;
use crate::crypto::mac;
use crate::handshake::{HandshakeBuffer, HandshakeOutput};
use crate::name::Name;
use crate::process_id::ProcessId;

/// Lengths of the buffers: frames of up to 256 bytes, and messages to fill them.
pub(super) const RECEIVE: usize = 260;
pub(super) const SEND: usize = 512;

/// The longest part that fits such a frame.
pub(super) const PART: usize = 256 - 1 - 16;

pub(super) fn mutual(name: &str, process_id: u8) -> Mutual {
    Mutual::new(Name::new(name).unwrap(), ProcessId::from_bytes(&[process_id; ProcessId::LEN]))
}

pub(super) fn sealed(mutual: Mutual) -> Config {
    Config::new(Scheme::Mutual(mutual))
}

pub(super) fn client() -> Config {
    sealed(mutual("client", 1))
}

pub(super) fn server() -> Config {
    sealed(mutual("server", 2))
}

pub(super) fn mutual_key() -> Key {
    Key::mutual(SECRET).unwrap()
}

impl End {
    pub(super) fn sealed(config: &Config, role: Role) -> Self {
        Self::new(config, role, RECEIVE, SEND)
    }

    /// Has all of `bytes` read as a driver does, answering key requests; returns other events.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = self.answered();
        while !bytes.is_empty() {
            let n = self.offer(bytes);
            assert!(n > 0, "{} bytes were not wanted", bytes.len());
            bytes = &bytes[n..];
            events.extend(self.answered());
        }
        events
    }

    /// All events but key requests, which are answered.
    pub(super) fn answered(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for _ in 0..100 {
            let some = self.events();
            if some.is_empty() {
                return events;
            }
            if some.contains(&Event::KeyNeeded) {
                self.key(&mutual_key());
            }
            events.extend(some.into_iter().filter(|&event| event != Event::KeyNeeded));
        }
        panic!("there is no end of events");
    }

    /// What is shown to be transmitted, none of which is.
    pub(super) fn shown(&mut self) -> Vec<u8> {
        self.session.poll_transmit(self.now).to_vec()
    }
}

/// Two ends in their handshake, and then established.
pub(super) fn established(client: &Config, server: &Config) -> (End, End) {
    let mut client = End::sealed(client, Role::Client);
    let mut server = End::sealed(server, Role::Server);
    assert_eq!(client.hear(&server.sent()), []);
    assert_eq!(server.hear(&client.sent()), []);
    let m3 = server.sent();
    assert_eq!(server.events(), [Event::Established]);
    assert_eq!(client.hear(&m3), [Event::Established]);
    (client, server)
}

/// A peer that has proved itself, and from there on sends what it likes.
pub(super) struct Rogue {
    send: [u8; 32],
    receive: [u8; 32],
    tagged: bool,
    sent: u64,
    received: u64,
}

impl Rogue {
    fn new(output: HandshakeOutput) -> Self {
        let sealing = output.sealing.unwrap();
        let (send, receive) = (*sealing.send, *sealing.receive);
        Self { send, receive, tagged: sealing.tagged, sent: 0, received: 0 }
    }

    fn tag(&self, key: &[u8; 32], seq: u64, frame: &[u8]) -> Vec<u8> {
        let len = if self.tagged { 16 } else { 0 };
        mac::sha256(key, &[&seq.to_be_bytes(), frame])[..len].to_vec()
    }

    /// The next frame, of any type.
    pub(super) fn frame(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let n = (1 + payload.len() + if self.tagged { 16 } else { 0 }) as u32;
        let mut frame = [&n.to_be_bytes()[..], &[kind], payload].concat();
        frame.extend(self.tag(&self.send, self.sent, &frame));
        self.sent += 1;
        frame
    }

    /// The frames in `bytes`, whole and in order, each its type and payload.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<4>() {
            let n = u32::from_be_bytes(*header) as usize;
            let tag = if self.tagged { 16 } else { 0 };
            assert!(rest.len() >= n, "half a frame");
            let (frame, rest) = bytes.split_at(4 + n);
            let (frame, tag) = frame.split_at(4 + n - tag);
            assert_eq!(self.tag(&self.receive, self.received, frame), tag);
            self.received += 1;
            frames.push((frame[4], frame[5..].to_vec()));
            bytes = rest;
        }
        assert_eq!(bytes, b"", "half a header");
        frames
    }
}

/// An end that is established with such a peer.
pub(super) fn against(config: &Config, role: Role, peer: &Config) -> (End, Rogue) {
    against_with(End::sealed(config, role), peer, 256)
}

/// The same, whose buffers are its own, with a peer that takes frames of `max_frame` bytes.
pub(super) fn against_with(mut end: End, peer: &Config, max_frame: u32) -> (End, Rogue) {
    let role = match end.session.role() {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    let mut buffer = HandshakeBuffer::new(vec![0; 1024], peer.scheme());
    let mut handshake = Handshake::new(peer, role, nonce(), max_frame, &mut buffer).unwrap();
    let mut step = |buffer: &mut HandshakeBuffer<_>, input: Input<'_>| {
        let over = Handshake::Complete { authenticated: false };
        let (received, mut out) = buffer.split();
        let before = core::mem::replace(&mut handshake, over);
        handshake = before.step(input, received, &mut out).unwrap();
        let key = handshake.key_purpose().is_some();
        (handshake.want(), key, handshake.is_over().then(|| handshake.output(buffer.view())))
    };
    let channel = [0x0c; 32];
    end.session.bind_channel(&channel, end.now);
    let (mut want, mut key, mut over) = step(&mut buffer, Input::Channel(&channel));
    let key_of_both = mutual_key();
    let mut heard = Vec::new();
    let mut events = Vec::new();
    for _ in 0..100 {
        let said = buffer.pending().to_vec();
        buffer.handle_transmitted(said.len());
        events.extend(end.hear(&said));
        heard.extend(end.sent());
        events.extend(end.answered());
        if let Some(outcome) = over {
            assert_eq!(events, [Event::Established]);
            assert_eq!(heard, b"");
            return (end, Rogue::new(outcome.unwrap()));
        }
        let input = if key {
            Input::Key(Ok(Candidates::one(&key_of_both)))
        } else {
            let n = buffer.space(want).len();
            assert!(heard.len() >= n, "nobody has anything to say");
            buffer.space(want).copy_from_slice(&heard[..n]);
            buffer.commit(n);
            heard.drain(..n);
            Input::Received
        };
        (want, key, over) = step(&mut buffer, input);
    }
    panic!("there is no end of the handshake");
}
