//! Runs one endpoint on the records delivered to it, with the core of the parent module.

use std::time::Duration;

use super::protocol::{
    Buffers, Candidates, Config, Event, Instant, Key, KeyRejection, Mutual, Nonce, ProcessId,
    Protocol, Scheme, Session,
};
use crate::world::{Endpoint, PeerFacts, Report, Side, secret};

const NOW: Instant = Instant::EPOCH;

/// Runs `endpoint` from its start through all `delivered` records. Its application sends its
/// messages as soon as the session is established.
pub(crate) fn run(endpoint: &Endpoint, delivered: &[&[u8]]) -> Report {
    let session = session(endpoint);
    let mut run = Run { session, endpoint, report: Report::default() };
    run.poll();
    for record in delivered {
        run.deliver(record);
    }
    run.report
}

struct Run<'a> {
    session: Session<Vec<u8>>,
    endpoint: &'a Endpoint,
    report: Report,
}

fn session(endpoint: &Endpoint) -> Session<Vec<u8>> {
    let process_id = ProcessId::from_bytes(&[endpoint.process_id; ProcessId::LEN]);
    let mut mutual = Mutual::new(endpoint.name.parse().unwrap(), process_id)
        .with_key_id(endpoint.key_id.parse().unwrap())
        .with_heartbeat(Duration::ZERO);
    if let Some(name) = endpoint.expected {
        mutual = mutual.with_expected_server(name.parse().unwrap());
    }
    if endpoint.channel.is_some() {
        mutual = mutual.with_channel_binding();
    }
    let config = Config::new(Scheme::Mutual(mutual));
    let nonce = Nonce::from_bytes([endpoint.id; Nonce::LEN]);
    let buffers = Buffers { handshake: vec![0; 1024], receive: vec![0; 512], send: vec![0; 512] };
    let mut session = match endpoint.side {
        Side::Client => Session::client(&config, nonce, buffers, NOW),
        Side::Server => Session::server(&config, nonce, buffers, NOW),
    }
    .unwrap();
    if let Some(channel) = endpoint.channel {
        session.bind_channel(&[channel; 32], NOW);
    }
    session
}

fn key(number: u8) -> Key {
    Key::mutual(&secret(number)).unwrap()
}

impl Run<'_> {
    fn deliver(&mut self, mut bytes: &[u8]) {
        // A failed session reads no more.
        while !bytes.is_empty() && self.session.wants_read() {
            let space = self.session.recv_space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.session.handle_received(n, NOW);
            bytes = &bytes[n..];
            self.poll();
        }
    }

    fn poll(&mut self) {
        loop {
            match self.session.poll_event(NOW) {
                Ok(Some(Event::KeyNeeded)) => self.provide_key(),
                Ok(Some(Event::Established)) => {
                    for message in self.endpoint.messages() {
                        self.session.split().1.send(&message).unwrap();
                    }
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.report.received.push(self.session.split().0.to_vec());
                    self.session.consume(NOW);
                }
                Ok(Some(event)) => panic!("no endpoint ends its session: {event:?}"),
                Ok(None) | Err(_) => {
                    if self.transmit() == 0 {
                        break;
                    }
                }
            }
        }
        self.report.failed = self.session.poll_event(NOW).is_err();
        self.report.facts = self.facts();
    }

    /// Splits the output into records. Returns its length in bytes.
    fn transmit(&mut self) -> usize {
        let mut records = self.session.poll_transmit(NOW).to_vec();
        let n = records.len();
        self.session.handle_transmitted(n, NOW);
        while let Some((header, _)) = records.split_first_chunk() {
            let remaining = records.split_off(4 + u32::from_be_bytes(*header) as usize);
            self.report.sent.push(std::mem::replace(&mut records, remaining));
        }
        n
    }

    fn provide_key(&mut self) {
        let key_id = self.session.key_request().unwrap().key_id.unwrap();
        let keys: Vec<Key> = match key_id == self.endpoint.key_id {
            true => self.endpoint.secrets.iter().map(|&number| key(number)).collect(),
            false => Vec::new(),
        };
        let answer = match &keys[..] {
            [] => Err(KeyRejection::Unknown),
            [one] => Ok(Candidates::one(one)),
            [first, second] => Ok(Candidates::two(first, second)),
            _ => panic!("an id has at most two keys"),
        };
        self.session.provide_key(answer, NOW).unwrap();
    }

    fn facts(&self) -> Option<PeerFacts> {
        let peer = self.session.peer()?;
        assert!(peer.authenticated);
        let used = |number: &&u8| key(**number).fingerprint() == peer.fingerprint;
        Some(PeerFacts {
            name: peer.name.unwrap().to_owned(),
            key_id: peer.key_id.unwrap().to_owned(),
            secret: *self.endpoint.secrets.iter().find(used).unwrap(),
            session_id: *peer.session_id.unwrap(),
            exporter: *peer.exporter.unwrap(),
        })
    }
}
