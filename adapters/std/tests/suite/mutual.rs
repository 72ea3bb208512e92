//! The scheme `mutual`, with a server of this adapter.

use countersign::Alert;

use super::*;

fn start(end: Mutual) -> Running {
    Running::echo(mutual(end), Some(key()))
}

fn connect(server: &Running, end: Mutual, secret: &[u8]) -> Result<Connection, CallError> {
    let mut options = options(PATIENCE);
    options.message_memory = MessageMemory::new(1 << 20, 8 << 20);
    let key = Key::mutual(secret).unwrap();
    Connection::connect(&connector(&server.address, mutual(end), key).with_options(options))
}

#[test]
fn messages_of_any_length_return_whole() {
    let server = start(end("server", 1));
    let client = connect(&server, end("client", 2), SECRET).unwrap();
    for len in [0, 1, 16_383, 16_384, 16_385, 1 << 20] {
        let message = vec![len as u8; len];
        client.send(&message).unwrap();
        assert_eq!(client.recv().unwrap().as_deref(), Some(&message[..]), "{len}");
    }
    client.finish().unwrap();
    assert_eq!(client.recv().unwrap(), None);
}

/// Answers every message with the same one.
struct Answers(Vec<u8>);

impl Service for Answers {
    fn on_message(&mut self, _: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(&self.0)?)
    }
}

#[test]
fn too_long_message_can_be_taken_in_chunks() {
    let (message, answer) = (bytes(2 << 20), bytes(2 << 20));
    let server = Running::start(mutual_server(ServerOptions::default()), |server| {
        server.run(move |_| Answers(answer.clone()));
    });
    let client = connect(&server, end("client", 2), SECRET).unwrap();
    client.send(b"a question").unwrap();
    for _ in 0..2 {
        assert!(matches!(client.recv(), Err(CallError::MessageTooLong)));
    }
    let mut received = Vec::new();
    loop {
        let chunk = client.recv_chunk().unwrap().unwrap();
        assert_eq!(chunk.first, received.is_empty());
        received.extend_from_slice(&chunk.bytes);
        if chunk.remaining == Remaining::End {
            break;
        }
    }
    assert!(received == message);
    client.send(b"next").unwrap();
    assert!(matches!(client.recv(), Err(CallError::MessageTooLong)));
    let too_long = client.send(&message);
    let limit = SendError::TooLong { max: 1 << 20 };
    assert!(matches!(too_long, Err(CallError::Send(error)) if error == limit), "{too_long:?}");
}

#[test]
fn connection_reads_and_writes_as_byte_stream() {
    let server = start(end("server", 1));
    let client = connect(&server, end("client", 2), SECRET).unwrap();
    let mut stream = &client;
    let long = vec![7; 100_000];
    for message in [&b"one"[..], b"", b"two", &long] {
        stream.write_all(message).unwrap();
    }
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"onetw");
    assert_eq!(stream.read(&mut []).unwrap(), 0);
    // `recv_chunk` and `recv` return the rest of a message.
    let chunk = client.recv_chunk().unwrap().unwrap();
    assert_eq!(
        (&chunk.bytes[..], chunk.first, chunk.remaining),
        (&b"o"[..], false, Remaining::End)
    );
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), long[5..]);
    client.finish().unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    let error = stream.write(b"late").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let inner = error.get_ref().unwrap().downcast_ref::<CallError>();
    assert!(matches!(inner, Some(CallError::Send(_))), "{inner:?}");
}

#[test]
fn client_reads_name_of_server() {
    let server = start(end("gate", 1));
    let client = end("client", 2).with_expected_server("gate".parse().unwrap());
    let client = connect(&server, client, SECRET).unwrap();
    let known = client.peer(|peer| {
        assert!(peer.authenticated && peer.exporter.is_some() && peer.session_id.is_some());
        peer.name.map(str::to_owned)
    });
    assert_eq!(known.unwrap().as_deref(), Some("gate"));
}

#[test]
fn refused_client_receives_alert_only() {
    let server = start(end("gate", 1));
    let refused = |client, secret| match connect(&server, client, secret) {
        Err(CallError::Protocol(error)) => error,
        other => panic!("{other:?}"),
    };
    let alert = Error::Alert(Alert::Refused);
    assert_eq!(refused(end("client", 2), b"another key that is long enough"), alert);
    assert_eq!(refused(end("gate", 2), SECRET), alert);
    assert_eq!(refused(end("client", 1), SECRET), alert);
    let picky = end("client", 2).with_expected_server("gateway".parse().unwrap());
    assert_eq!(refused(picky, SECRET), alert);
}

#[test]
fn session_within_one_process_is_refused() {
    let own = || Mutual::new("one".parse().unwrap(), process_id().unwrap());
    let server = start(own());
    let other_name = Mutual::new("two".parse().unwrap(), process_id().unwrap());
    let error = connect(&server, other_name, SECRET).unwrap_err();
    assert!(matches!(error, CallError::Protocol(Error::Alert(Alert::Refused))), "{error}");
}

#[test]
fn finished_client_sends_no_more() {
    let server = start(end("server", 1));
    let client = connect(&server, end("client", 2), SECRET).unwrap();
    client.finish().unwrap();
    let error = client.send(b"more").unwrap_err();
    assert!(matches!(error, CallError::Send(SendError::Finished | SendError::Ended)), "{error}");
}
