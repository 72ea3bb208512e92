//! Connections of clients, with scripted servers and real ones.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign::{KeyRejection, Mac, TimedOut, Truncated};

use super::*;

const SHA256: Digest = Digest::Sha256;
const CHALLENGE: Scheme = Scheme::Challenge { digest: SHA256 };

fn key(secret: &[u8]) -> Key {
    Key::challenge(SHA256, secret).unwrap()
}

/// Connects with `timeout` for each call.
fn connect_within(
    timeout: Duration,
    address: &Address,
    config: Config,
    key: Option<Key>,
) -> Result<Connection, CallError> {
    Connection::connect(&connector(address, config, key).with_options(options(timeout)))
}

#[test]
fn client_answers_challenge_of_plain_sockets() {
    let (address, server_thread) = scripted_server(|mut stream| {
        let challenge = [7; 32];
        stream.write_all(&challenge[..5]).unwrap();
        stream.write_all(&challenge[5..]).unwrap();
        let mut response = [0; 32];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(response, Mac::new(SHA256, b"secret").tag(&challenge).bytes());
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"hello");
        stream.write_all(b"HELLO").unwrap();
    });
    let client =
        connect_within(PATIENCE, &address, Config::new(CHALLENGE), Some(key(b"secret"))).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"HELLO");
    assert_eq!(client.recv().unwrap(), None);
    server_thread.join().unwrap();
}

#[test]
fn server_admits_only_clients_with_its_key() {
    let config = Config::new(CHALLENGE).with_framing(Framing::U32);
    let server = Running::echo(config.clone(), Some(key(b"right")));
    let connect = |with: &[u8]| {
        connect_within(PATIENCE, &server.address, config.clone(), Some(key(with))).unwrap()
    };
    let client = connect(b"right");
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    // The server closes without an alert, which `challenge` does not have.
    assert_eq!(connect(b"wrong").recv().unwrap(), None);
}

#[test]
fn close_during_handshake_is_truncation() {
    let (address, server_thread) =
        scripted_server(|mut stream| stream.write_all(&[7; 31]).unwrap());
    let failed = connect_within(PATIENCE, &address, Config::new(CHALLENGE), Some(key(b"secret")));
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::Truncated(Truncated::Handshake)))),
        "{failed:?}"
    );
    server_thread.join().unwrap();
}

#[test]
fn client_without_key_answers_no_challenge() {
    let (address, server_thread) = scripted_server(|mut stream| {
        stream.write_all(&[7; 32]).unwrap();
        assert_eq!(read_all(&stream), b"");
    });
    let failed = connect_within(PATIENCE, &address, Config::new(CHALLENGE), None);
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::Refused(KeyRejection::Unknown)))),
        "{failed:?}"
    );
    server_thread.join().unwrap();
}

#[test]
fn silent_server_fails_at_handshake_timeout() {
    let (address, server_thread) = scripted_server(|stream| assert_eq!(read_all(&stream), b""));
    let begun = Instant::now();
    let failed = connect_within(
        PATIENCE,
        &address,
        Config::new(CHALLENGE).with_handshake_timeout(SHORT),
        Some(key(b"secret")),
    );
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::TimedOut(TimedOut::Handshake)))),
        "{failed:?}"
    );
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    server_thread.join().unwrap();
}

#[test]
fn call_timeout_bounds_handshake() {
    let (address, server_thread) = scripted_server(|stream| assert_eq!(read_all(&stream), b""));
    let begun = Instant::now();
    let failed = connect_within(
        SHORT,
        &address,
        Config::new(CHALLENGE).with_handshake_timeout(PATIENCE),
        Some(key(b"secret")),
    );
    assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    server_thread.join().unwrap();
}

#[test]
fn timed_out_recv_leaves_connection_usable() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |mut stream| {
        let whole = frame(b"late");
        stream.write_all(&whole[..6]).unwrap();
        proceed.recv_timeout(PATIENCE).unwrap();
        stream.write_all(&whole[6..]).unwrap();
    });
    let client = connect_within(SHORT, &address, Config::new(Scheme::None), None).unwrap();
    let begun = Instant::now();
    let failed = client.recv();
    assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    go.send(()).unwrap();
    assert_eq!(retry(|| client.recv()).unwrap().unwrap(), b"late");
    server_thread.join().unwrap();
}

/// Repeats a call that times out or is busy, until [`PATIENCE`] has passed.
fn retry<T>(mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(CallError::TimedOut | CallError::Busy) if Instant::now() < until => {}
            other => return other,
        }
    }
}

#[test]
fn timed_out_send_completes_and_next_send_is_busy() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |mut stream| {
        proceed.recv_timeout(PATIENCE).unwrap();
        let first = read_frame(&stream);
        let second = read_frame(&stream);
        assert_eq!(read_all(&stream), b"");
        stream.write_all(&frame(b"thanks")).unwrap();
        (first, second)
    });
    let client = connect_within(SHORT, &address, Config::new(Scheme::None), None).unwrap();
    let message = bytes(MUCH);
    let begun = Instant::now();
    let failed = client.send(&message);
    assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    let failed = client.send(b"never sent");
    assert!(matches!(failed, Err(CallError::Busy)), "{failed:?}");

    go.send(()).unwrap();
    let next = || match client.send(b"next") {
        // The message is queued; sending it again would duplicate it.
        Err(CallError::TimedOut) => Ok(()),
        other => other,
    };
    retry(next).unwrap();
    retry(|| client.finish()).unwrap();
    assert_eq!(retry(|| client.recv()).unwrap().unwrap(), b"thanks");
    assert_eq!(retry(|| client.recv()).unwrap(), None);
    let (first, second) = server_thread.join().unwrap();
    assert!(first == message, "received {} bytes of {}, or wrong ones", first.len(), message.len());
    assert_eq!(second, b"next");
}

#[test]
fn send_returns_after_its_message_was_written() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |stream| {
        let count = proceed.recv_timeout(PATIENCE).unwrap();
        (0..count).for_each(|_| assert_eq!(read_frame(&stream), [7; 4096]));
    });
    let client = connect_within(SHORT, &address, Config::new(Scheme::None), None).unwrap();
    let mut count = 0;
    let failed = loop {
        match client.send(&[7; 4096]) {
            Ok(()) => count += 1,
            Err(failed) => break failed,
        }
    };
    assert!(matches!(failed, CallError::TimedOut), "{failed:?}");
    // No further call is needed.
    go.send(count).unwrap();
    server_thread.join().unwrap();
    drop(client);
}

#[test]
fn recv_completes_timed_out_send() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |mut stream| {
        proceed.recv_timeout(PATIENCE).unwrap();
        let message = read_frame(&stream);
        stream.write_all(&frame(b"thanks")).unwrap();
        message
    });
    let client = connect_within(SHORT, &address, Config::new(Scheme::None), None).unwrap();
    let message = bytes(MUCH);
    let failed = client.send(&message);
    assert!(matches!(failed, Err(CallError::TimedOut)), "{failed:?}");
    go.send(()).unwrap();
    assert_eq!(retry(|| client.recv()).unwrap().unwrap(), b"thanks");
    assert!(server_thread.join().unwrap() == message);
}

/// Receives half a message and makes no call for longer than the stall timeout; the server sends the rest
/// within that time if `in_time`.
fn recv_after_stall_timeout(in_time: bool) -> Result<Option<Vec<u8>>, CallError> {
    let (go, proceed) = channel();
    let (passed, has_passed) = channel();
    let (done, is_done) = channel::<()>();
    let (address, server_thread) = scripted_server(move |mut stream| {
        let whole = frame(b"second");
        stream.write_all(&[&frame(b"first")[..], &whole[..7]].concat()).unwrap();
        proceed.recv_timeout(PATIENCE).unwrap();
        if in_time {
            stream.write_all(&whole[7..]).unwrap();
            thread::sleep(2 * SHORT);
        } else {
            // Returns when the client closes the connection.
            read_all(&stream);
        }
        passed.send(()).unwrap();
        let _ = is_done.recv_timeout(PATIENCE);
    });
    let client = connect_within(
        PATIENCE,
        &address,
        Config::new(Scheme::None).with_stall_timeout(SHORT),
        None,
    )
    .unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"first");
    go.send(()).unwrap();
    has_passed.recv_timeout(PATIENCE).unwrap();
    let second = client.recv();
    drop(done);
    server_thread.join().unwrap();
    second
}

#[test]
fn message_in_time_is_received_after_stall_timeout() {
    assert_eq!(recv_after_stall_timeout(true).unwrap().unwrap(), b"second");
}

#[test]
fn late_message_is_error_after_stall_timeout() {
    let failed = recv_after_stall_timeout(false);
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::TimedOut(TimedOut::Receive)))),
        "{failed:?}"
    );
}

#[test]
fn one_thread_sends_while_another_receives() {
    const LEN: usize = 50 << 20;
    let config = Config::new(Scheme::None).with_max_frame(LEN as u64);
    let server = Running::echo(config.clone(), None);
    let client = connect_within(PATIENCE, &server.address, config, None).unwrap();
    let message = bytes(LEN);
    within_patience(|scope| {
        let sending = scope.spawn(|| client.send(&message));
        let echo = client.recv().unwrap().unwrap();
        assert!(echo == message, "received {} bytes of {LEN}, or wrong ones", echo.len());
        sending.join().unwrap().unwrap();
    });
    client.finish().unwrap();
    assert_eq!(client.recv().unwrap(), None);
}

#[test]
fn many_threads_send_and_receive_on_one_connection() {
    const THREADS: usize = 4;
    const COUNT: usize = 2_000;
    let server = Running::echo(Config::new(Scheme::None), None);
    let client = connect(&server.address);
    let received = AtomicUsize::new(0);
    within_patience(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while client.recv().unwrap().is_some() {
                    received.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let sending: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..COUNT).try_for_each(|n| client.send(&n.to_be_bytes()))))
            .collect();
        sending.into_iter().for_each(|it| it.join().unwrap().unwrap());
        client.finish().unwrap();
    });
    assert_eq!(received.into_inner(), THREADS * COUNT);
}

#[test]
fn messages_of_one_thread_return_to_another_in_order() {
    const COUNT: usize = 20_000;
    let server = Running::echo(Config::new(Scheme::None), None);
    let client = connect(&server.address);
    within_patience(|scope| {
        let sending = scope.spawn(|| {
            (0..COUNT).try_for_each(|n| client.send(&n.to_be_bytes()))?;
            client.finish()
        });
        for n in 0..COUNT {
            assert_eq!(client.recv().unwrap().unwrap(), n.to_be_bytes());
        }
        assert_eq!(client.recv().unwrap(), None);
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn message_read_by_one_thread_reaches_waiting_one() {
    const COUNT: usize = 1_000;
    let (received, is_received) = channel();
    let (address, server_thread) = scripted_server(move |mut stream| {
        for n in 0..COUNT {
            // No other message arrives that would wake the receiver.
            stream.write_all(&frame(&n.to_be_bytes())).unwrap();
            is_received.recv_timeout(PATIENCE).unwrap();
        }
    });
    let client = connect(&address);
    let over = AtomicBool::new(false);
    within_patience(|scope| {
        // Each call reads what has arrived, though there is nothing to send.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                client.finish().unwrap();
            }
        });
        for n in 0..COUNT {
            assert_eq!(client.recv().unwrap().unwrap(), n.to_be_bytes());
            over.store(n + 1 == COUNT, Ordering::Relaxed);
            if n + 1 < COUNT {
                received.send(()).unwrap();
            }
        }
    });
    received.send(()).unwrap();
    server_thread.join().unwrap();
}

#[test]
fn waiting_receiver_does_not_delay_sender() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |mut stream| {
        stream.write_all(&frame(b"first")).unwrap();
        proceed.recv_timeout(PATIENCE).unwrap();
        // Answers only after the whole message has arrived.
        let message = read_frame(&stream);
        stream.write_all(&frame(b"thanks")).unwrap();
        message
    });
    let client = connect(&address);
    let mut message = Vec::new();
    let (waiting, is_waiting) = channel();
    within_patience(|scope| {
        let receiving = scope.spawn(|| {
            assert_eq!(client.recv().unwrap().unwrap(), b"first");
            waiting.send(()).unwrap();
            client.recv()
        });
        // While these bytes are made, the receiver starts to wait for input.
        is_waiting.recv().unwrap();
        message = bytes(MUCH);
        go.send(()).unwrap();
        client.send(&message).unwrap();
        assert_eq!(receiving.join().unwrap().unwrap().unwrap(), b"thanks");
    });
    assert!(server_thread.join().unwrap() == message);
}

#[test]
fn reset_is_io_error() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_server(move |stream| {
        assert_eq!(read_frame(&stream), b"hello");
        proceed.recv_timeout(PATIENCE).unwrap();
        reset(stream);
    });
    let client = connect(&address);
    client.send(b"hello").unwrap();
    go.send(()).unwrap();
    let failed = client.recv();
    match &failed {
        Err(CallError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    // Later calls report it too.
    assert!(matches!(client.recv(), Err(CallError::Io(_))));
    assert!(matches!(client.send(b"again"), Err(CallError::Io(_))));
    server_thread.join().unwrap();
}

#[test]
fn finished_client_receives_until_peer_finishes() {
    let (address, server_thread) = scripted_server(|mut stream| {
        let all = read_all(&stream);
        for n in 0..100_u8 {
            stream.write_all(&frame(&[n; 1000])).unwrap();
        }
        all
    });
    let client = connect(&address);
    client.send(b"hello").unwrap();
    client.finish().unwrap();
    let failed = client.send(b"more");
    assert!(
        matches!(failed, Err(CallError::Send(SendError::Finished | SendError::Ended))),
        "{failed:?}"
    );
    for n in 0..100_u8 {
        assert_eq!(client.recv().unwrap().unwrap(), [n; 1000]);
    }
    assert_eq!(client.recv().unwrap(), None);
    assert_eq!(client.recv().unwrap(), None);
    assert_eq!(server_thread.join().unwrap(), frame(b"hello"));
}

#[test]
fn close_within_message_is_truncation() {
    let (address, server_thread) = scripted_server(|mut stream| {
        stream.write_all(&frame(b"whole")).unwrap();
        stream.write_all(&frame(b"half")[..6]).unwrap();
    });
    let client = connect(&address);
    assert_eq!(client.recv().unwrap().unwrap(), b"whole");
    let failed = client.recv();
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::Truncated(Truncated::Message)))),
        "{failed:?}"
    );
    server_thread.join().unwrap();
}

#[test]
fn long_message_arrives_in_chunks_that_add_up() {
    let message = bytes(100_000);
    let sent = frame(&message);
    let (address, server_thread) =
        scripted_server(move |mut stream| stream.write_all(&sent).unwrap());
    let client = connect(&address);
    let mut received = Vec::new();
    loop {
        let chunk = client.recv_chunk().unwrap().unwrap();
        assert_eq!(chunk.first, received.is_empty());
        received.extend_from_slice(&chunk.bytes);
        match message.len() - received.len() {
            0 => {
                assert_eq!(chunk.remaining, Remaining::End);
                break;
            }
            left => assert_eq!(chunk.remaining, Remaining::Bytes(left as u64)),
        }
    }
    assert_eq!(received, message);
    assert_eq!(client.recv_chunk().unwrap(), None);
    server_thread.join().unwrap();
}

#[test]
fn server_that_stops_reading_fails_send_at_stall_timeout() {
    let (done, is_done) = channel::<()>();
    let (address, server_thread) = scripted_server(move |stream| {
        let _ = is_done.recv();
        drop(stream);
    });
    let client = connect_within(
        PATIENCE,
        &address,
        Config::new(Scheme::None).with_stall_timeout(SHORT),
        None,
    )
    .unwrap();
    let failed = client.send(&bytes(MUCH));
    assert!(
        matches!(failed, Err(CallError::Protocol(Error::TimedOut(TimedOut::Send)))),
        "{failed:?}"
    );
    drop(done);
    server_thread.join().unwrap();
}

#[test]
fn reset_during_send_is_io_error() {
    let (address, server_thread) = scripted_server(|mut stream| {
        // The client is in the middle of its message.
        stream.read_exact(&mut [0; 1 << 16]).unwrap();
        reset(stream);
    });
    let client = connect(&address);
    let failed = client.send(&bytes(MUCH));
    assert!(matches!(failed, Err(CallError::Io(_))), "{failed:?}");
    server_thread.join().unwrap();
}

#[test]
fn protocol_violation_during_send_is_error() {
    let (done, is_done) = channel::<()>();
    let (address, server_thread) = scripted_server(move |mut stream| {
        stream.read_exact(&mut [0; 1 << 16]).unwrap();
        stream.write_all(&[0xff; 4]).unwrap();
        let _ = is_done.recv();
    });
    let client = connect(&address);
    let failed = client.send(&bytes(MUCH));
    assert!(matches!(failed, Err(CallError::Protocol(Error::FrameTooLong { .. }))), "{failed:?}");
    drop(done);
    server_thread.join().unwrap();
}
