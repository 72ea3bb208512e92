//! Two whole sessions of the scheme `mutual`, made by another implementation, byte for byte in both
//! roles.
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

struct End {
    session: Session<Vec<u8>>,
    key: Key,
}

impl End {
    fn new(vector: &Value, role: Role) -> Self {
        let (name, nonce, instance) = match role {
            Role::Client => ("client_name", "client_nonce", "client_instance"),
            Role::Server => ("server_name", "server_nonce", "server_instance"),
        };
        let mut whole = [0; ProcessId::LEN];
        whole[..16].copy_from_slice(&unhex(&vector[instance]));
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
        let room = max_frame as usize + 4;
        let buffers =
            Buffers { handshake: vec![0; 1024], receive: vec![0; room], send: vec![0; room] };
        let nonce = Nonce::from_bytes(random);
        let mut session = match role {
            Role::Client => Session::client(&config, nonce, buffers, NOW),
            Role::Server => Session::server(&config, nonce, buffers, NOW),
        }
        .unwrap();
        if let Ok(exporter) = exporter.try_into() {
            assert!(
                !session.wants_read() && !session.wants_write(),
                "it spoke before it was bound"
            );
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
            // A handshake reads no more than its next step wants.
            if !bytes.is_empty() && self.session.peer().is_none() {
                assert_eq!(self.events(), []);
            }
        }
    }

    /// Events but for key requests, which are answered.
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

    fn sent(&mut self) -> Vec<u8> {
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

    fn is_in_session(&self, vector: &Value, name: &str) {
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

/// The two ends of a session, established.
fn established(vector: &Value) -> (End, End) {
    let mut server = End::new(vector, Role::Server);
    let mut client = End::new(vector, Role::Client);
    let m1 = server.sent();
    assert_eq!(m1, unhex(&vector["m1"]));
    assert_eq!(client.sent(), b"");
    client.feed(&m1);
    assert_eq!(client.events(), []);
    let m2 = client.sent();
    assert_eq!(m2, unhex(&vector["m2"]));
    server.feed(&m2);
    assert_eq!(server.events(), []);
    let m3 = server.sent();
    assert_eq!(m3, unhex(&vector["m3"]));
    assert_eq!(server.events(), [Event::Established]);
    client.feed(&m3);
    assert_eq!(client.events(), [Event::Established]);
    server.is_in_session(vector, &text(vector, "client_name"));
    client.is_in_session(vector, &text(vector, "server_name"));
    (client, server)
}

#[test]
fn both_handshakes_agree_byte_for_byte_in_both_roles() {
    for vector in sessions() {
        let (client, server) = established(&vector);
        for mut end in [client, server] {
            // What the peer takes, less type and tag.
            let max_frame = vector["max_frame"].as_u64().unwrap() as usize;
            assert_eq!(end.session.split().1.max_chunk(), max_frame - 17);
        }
    }
}

/// The client of the vectors sends these itself: two messages, one of them empty, a PONG to the
/// server's PING, a PART. Then the server's FIN reaches it.
#[test]
fn every_frame_of_both_directions_agrees_byte_for_byte() {
    for vector in sessions() {
        let (mut client, mut server) = established(&vector);
        let frames = vector["frames"].as_array().unwrap();
        assert_eq!(frames.len(), 7);
        let mut wires = frames.iter().map(|frame| unhex(&frame["wire"]));
        let mut next = || wires.next().unwrap();
        let whole = Event::Chunk { first: true, remaining: Remaining::End };

        for message in [&b"hi"[..], b""] {
            client.session.split().1.send(message).unwrap();
            let wire = client.sent();
            assert_eq!(wire, next());
            server.feed(&wire);
            assert_eq!(server.events(), [whole]);
            assert_eq!(server.session.split().0, message);
            server.session.consume(NOW);
        }

        // The vectors' server has another PING than ours would have.
        client.feed(&next());
        assert_eq!(client.events(), []);
        let pong = client.sent();
        assert_eq!(pong, next());
        server.feed(&pong);
        assert_eq!(server.events(), []);

        client.session.split().1.send_chunk(b"a part", Remaining::More).unwrap();
        let chunk = client.sent();
        assert_eq!(chunk, next());
        server.feed(&chunk);
        assert_eq!(server.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
        assert_eq!(server.session.split().0, b"a part");
        server.session.consume(NOW);

        client.feed(&next());
        assert_eq!(client.events(), [Event::PeerFinished]);

        // The client's CLOSE has another text than ours.
        server.feed(&next());
        let error = server.session.poll_event(NOW).unwrap_err();
        assert_eq!(error, countersign::Error::PeerClosed(CloseReason::Shutdown));
    }
}
