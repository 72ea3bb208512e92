//! One machine and what is delivered to it, for whichever core the parent has.

use std::time::Duration;

use super::protocol::{
    Buffers, Candidates, Config, Event, Instant, Key, KeyRejection, Mutual, Nonce, ProcessId,
    Protocol, Scheme, Session,
};
use crate::world::{Facts, Report, Side, Spec, secret};

const NOW: Instant = Instant::EPOCH;

/// Runs the machine of `spec` from its beginning through all that is delivered to it. As soon as it
/// is established, its
/// application sends its messages.
pub(crate) fn run(spec: &Spec, delivered: &[&[u8]]) -> Report {
    let mut end = End { session: session(spec), spec, report: Report::default() };
    end.turn();
    for record in delivered {
        end.deliver(record);
    }
    end.report
}

struct End<'a> {
    session: Session<Vec<u8>>,
    spec: &'a Spec,
    report: Report,
}

fn session(spec: &Spec) -> Session<Vec<u8>> {
    let instance = ProcessId::from_bytes(&[spec.instance; ProcessId::LEN]);
    let mut mutual = Mutual::new(spec.name.parse().unwrap(), instance)
        .with_key_id(spec.key_id.parse().unwrap())
        .with_heartbeat(Duration::ZERO);
    if let Some(name) = spec.expected {
        mutual = mutual.with_expected_server(name.parse().unwrap());
    }
    if spec.channel.is_some() {
        mutual = mutual.with_channel_binding();
    }
    let config = Config::new(Scheme::Mutual(mutual));
    let nonce = Nonce::from_bytes([spec.id; Nonce::LEN]);
    let buffers = Buffers { handshake: vec![0; 1024], receive: vec![0; 512], send: vec![0; 512] };
    let mut session = match spec.side {
        Side::Client => Session::client(&config, nonce, buffers, NOW),
        Side::Server => Session::server(&config, nonce, buffers, NOW),
    }
    .unwrap();
    if let Some(channel) = spec.channel {
        session.bind_channel(&[channel; 32], NOW);
    }
    session
}

fn key(number: u8) -> Key {
    Key::mutual(&secret(number)).unwrap()
}

impl End<'_> {
    fn deliver(&mut self, mut bytes: &[u8]) {
        // Who has failed reads no more.
        while !bytes.is_empty() && self.session.wants_read() {
            let space = self.session.recv_space();
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.session.handle_received(n, NOW);
            bytes = &bytes[n..];
            self.turn();
        }
    }

    fn turn(&mut self) {
        loop {
            match self.session.poll_event(NOW) {
                Ok(Some(Event::KeyNeeded)) => self.provide_key(),
                Ok(Some(Event::Established)) => {
                    for message in self.spec.says() {
                        self.session.split().1.send(&message).unwrap();
                    }
                }
                Ok(Some(Event::Chunk { .. })) => {
                    self.report.heard.push(self.session.split().0.to_vec());
                    self.session.consume(NOW);
                }
                Ok(Some(event)) => panic!("nobody ends a session here: {event:?}"),
                Ok(None) | Err(_) => {
                    let n = self.transmit();
                    if n == 0 {
                        break;
                    }
                }
            }
        }
        self.report.over = self.session.poll_event(NOW).is_err();
        self.report.facts = self.facts();
    }

    fn transmit(&mut self) -> usize {
        let mut records = self.session.poll_transmit(NOW).to_vec();
        let n = records.len();
        self.session.handle_transmitted(n, NOW);
        while let Some((header, _)) = records.split_first_chunk() {
            let remaining = records.split_off(4 + u32::from_be_bytes(*header) as usize);
            self.report.emitted.push(std::mem::replace(&mut records, remaining));
        }
        n
    }

    fn provide_key(&mut self) {
        let kid = self.session.key_request().unwrap().key_id.unwrap();
        let keys: Vec<Key> = match kid == self.spec.key_id {
            true => self.spec.secrets.iter().map(|&number| key(number)).collect(),
            false => Vec::new(),
        };
        let answer = match &keys[..] {
            [] => Err(KeyRejection::Unknown),
            [one] => Ok(Candidates::one(one)),
            [first, second] => Ok(Candidates::two(first, second)),
            _ => panic!("no more than two keys of an id"),
        };
        self.session.provide_key(answer, NOW).unwrap();
    }

    fn facts(&self) -> Option<Facts> {
        let peer = self.session.peer()?;
        assert!(peer.authenticated);
        let used = |number: &&u8| key(**number).fingerprint() == peer.fingerprint;
        Some(Facts {
            peer: peer.name.unwrap().to_owned(),
            key_id: peer.key_id.unwrap().to_owned(),
            secret: *self.spec.secrets.iter().find(used).unwrap(),
            session_id: *peer.session_id.unwrap(),
            exporter: *peer.exporter.unwrap(),
        })
    }
}
