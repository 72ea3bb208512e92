//! Two complete sessions of the scheme `mutual`, made by another implementation, compared byte by
//! byte in both roles.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    Buffers, Candidates, CloseReason, Config, Event, Instant, Key, Mutual, Nonce, ProcessId,
    Protocol, Remaining, Role, Scheme, Session,
};
use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/mutual_vectors.json");
const NOW: Instant = Instant::EPOCH;

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn text(vector: &Value, field: &str) -> String {
    vector[field].as_str().unwrap().into()
}

struct Endpoint {
    session: Session<Vec<u8>>,
    key: Key,
}

impl Endpoint {
    fn new(vector: &Value, role: Role) -> Self {
        let (name, nonce, process_id) = match role {
            Role::Client => ("client_name", "client_nonce", "client_instance"),
            Role::Server => ("server_name", "server_nonce", "server_instance"),
        };
        let mut whole = [0; ProcessId::LEN];
        whole[..16].copy_from_slice(&unhex(&vector[process_id]));
        let mut mutual =
            Mutual::new(text(vector, name).parse().unwrap(), ProcessId::from_bytes(&whole))
                .with_key_id(text(vector, "kid").parse().unwrap())
                .with_heartbeat(Duration::from_millis(vector["heartbeat_ms"].as_u64().unwrap()));
        assert_eq!(vector["expected_server"], "");
        assert_eq!(vector["suites"], "01");
        let exporter = unhex(&vector["tls_exporter"]);
        if !exporter.is_empty() {
            mutual = mutual.with_channel_binding();
        }
        let max_frame = vector["max_frame"].as_u64().unwrap();
        let config = Config::new(Scheme::Mutual(mutual)).with_max_frame(max_frame);
        let mut random = [0; Nonce::LEN];
        random[..32].copy_from_slice(&unhex(&vector[nonce]));
        let memory = max_frame as usize + 4;
        let buffers =
            Buffers { handshake: vec![0; 1024], receive: vec![0; memory], send: vec![0; memory] };
        let nonce = Nonce::from_bytes(random);
        let mut session = match role {
            Role::Client => Session::client(&config, nonce, buffers, NOW),
            Role::Server => Session::server(&config, nonce, buffers, NOW),
        }
        .unwrap();
        if let Ok(exporter) = exporter.try_into() {
            assert!(!session.wants_read() && !session.wants_write(), "active before the binding");
            session.bind_channel(&exporter, NOW);
        }
        let key = Key::mutual(&unhex(&vector["psk"])).unwrap();
        Self { session, key }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.session.recv_space();
            let n = space.len().min(bytes.len());
            assert!(n > 0, "{} bytes are not wanted", bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.session.handle_received(n, NOW);
            bytes = &bytes[n..];
            // A handshake reads no more than its next step needs.
            if !bytes.is_empty() && self.session.peer().is_none() {
                assert_eq!(self.events(), []);
            }
        }
    }

    /// Returns the events other than key requests, which it answers.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.session.poll_event(NOW).unwrap() {
            match event {
                Event::KeyNeeded => {
                    let request = self.session.key_request().unwrap();
                    assert_eq!(request.key_id, Some("k1"));
                    self.session.provide_key(Ok(Candidates::one(&self.key)), NOW).unwrap();
                }
                event => events.push(event),
            }
        }
        events
    }

    fn output(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let bytes = self.session.poll_transmit(NOW).to_vec();
            if bytes.is_empty() {
                return sent;
            }
            self.session.handle_transmitted(bytes.len(), NOW);
            sent.extend(bytes);
        }
    }

    fn assert_established(&self, vector: &Value, name: &str) {
        let peer = self.session.peer().unwrap();
        assert!(peer.authenticated);
        assert_eq!(peer.name, Some(name));
        assert_eq!(peer.key_id, Some("k1"));
        assert_eq!(peer.session_id.unwrap().as_slice(), unhex(&vector["session_id"]));
        assert_eq!(peer.exporter.unwrap().as_slice(), unhex(&vector["exporter"]));
        assert_eq!(peer.fingerprint, self.key.fingerprint());
    }
}

fn sessions() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let sessions = vectors.as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    sessions
}

/// Returns the two endpoints of a session after their handshake.
fn established(vector: &Value) -> (Endpoint, Endpoint) {
    let mut server = Endpoint::new(vector, Role::Server);
    let mut client = Endpoint::new(vector, Role::Client);
    let m1 = server.output();
    assert_eq!(m1, unhex(&vector["m1"]));
    assert_eq!(client.output(), b"");
    client.feed(&m1);
    assert_eq!(client.events(), []);
    let m2 = client.output();
    assert_eq!(m2, unhex(&vector["m2"]));
    server.feed(&m2);
    assert_eq!(server.events(), []);
    let m3 = server.output();
    assert_eq!(m3, unhex(&vector["m3"]));
    assert_eq!(server.events(), [Event::Established]);
    client.feed(&m3);
    assert_eq!(client.events(), [Event::Established]);
    server.assert_established(vector, &text(vector, "client_name"));
    client.assert_established(vector, &text(vector, "server_name"));
    (client, server)
}

#[test]
fn handshakes_match_the_vectors_in_both_roles() {
    for vector in sessions() {
        let (client, server) = established(&vector);
        for mut end in [client, server] {
            // What the peer accepts, without type and tag.
            let max_frame = vector["max_frame"].as_u64().unwrap() as usize;
            assert_eq!(end.session.split().1.max_chunk(), max_frame - 17);
        }
    }
}

/// Our client sends these frames of the vectors: two messages, one of them empty, a PONG to the
/// server's PING, and a PART. Then it receives the server's FIN.
#[test]
fn frames_match_the_vectors_in_both_directions() {
    for vector in sessions() {
        let (mut client, mut server) = established(&vector);
        let frames = vector["frames"].as_array().unwrap();
        assert_eq!(frames.len(), 7);
        let mut wires = frames.iter().map(|frame| unhex(&frame["wire"]));
        let mut next = || wires.next().unwrap();
        let whole = Event::Chunk { first: true, remaining: Remaining::End };

        for message in [&b"hi"[..], b""] {
            client.session.split().1.send(message).unwrap();
            let wire = client.output();
            assert_eq!(wire, next());
            server.feed(&wire);
            assert_eq!(server.events(), [whole]);
            assert_eq!(server.session.split().0, message);
            server.session.consume(NOW);
        }

        // The vectors' server sends another PING than ours would.
        client.feed(&next());
        assert_eq!(client.events(), []);
        let pong = client.output();
        assert_eq!(pong, next());
        server.feed(&pong);
        assert_eq!(server.events(), []);

        client.session.split().1.send_chunk(b"a part", Remaining::More).unwrap();
        let chunk = client.output();
        assert_eq!(chunk, next());
        server.feed(&chunk);
        assert_eq!(server.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
        assert_eq!(server.session.split().0, b"a part");
        server.session.consume(NOW);

        client.feed(&next());
        assert_eq!(client.events(), [Event::PeerFinished]);

        // The CLOSE of the vectors' client carries another text than ours.
        server.feed(&next());
        let error = server.session.poll_event(NOW).unwrap_err();
        assert_eq!(error, countersign::Error::PeerClosed(CloseReason::Shutdown));
    }
}
