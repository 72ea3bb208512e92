//! The reconnecting client.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const QUICK: Duration = Duration::from_millis(1);

fn backoff() -> Backoff {
    Backoff::new(QUICK, 20 * QUICK)
}

/// A client of the scheme `none` that counts its connections and sends `it is me` on each.
fn client(address: &Address, timeout: Duration) -> (ReconnectingClient, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let connector =
        connector(address, Config::new(Scheme::None), NO_KEY).with_options(options(timeout));
    let client = ReconnectingClient::new(connector, backoff(), move |connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        connection.send(b"it is me")
    });
    (client, count)
}

/// A server that accepts `count` connections and runs `script` on each.
fn scripted_connections(
    count: usize,
    mut script: impl FnMut(usize, TcpStream) + Send + 'static,
) -> (Address, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server_thread = thread::spawn(move || {
        for n in 0..count {
            let stream = with_timeouts(listener.accept().unwrap().0);
            assert_eq!(read_frame(&stream), b"it is me");
            script(n, stream);
        }
    });
    (address, server_thread)
}

#[test]
fn call_after_a_failure_reconnects() {
    let (address, server_thread) = scripted_connections(3, |n, mut stream| {
        assert_eq!(read_frame(&stream), b"request");
        // The second connection is lost before the reply.
        match n {
            0 | 2 => stream.write_all(&frame(b"reply")).unwrap(),
            _ => reset(stream),
        }
    });
    let (mut client, count) = client(&address, PATIENCE);
    assert_eq!(client.request(b"request").unwrap(), b"reply");
    // The server closes the first connection, so the next call may fail as well.
    let mut failures = 0;
    while client.request(b"request").is_err() {
        failures += 1;
    }
    assert!((1..=2).contains(&failures), "{failures}");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    server_thread.join().unwrap();
}

#[test]
fn recv_reconnects_without_an_error() {
    let (address, server_thread) = scripted_connections(4, |n, mut stream| {
        // The connections end in order, within a message, by a reset, in order.
        match n {
            1 => stream.write_all(&frame(b"half")[..6]).unwrap(),
            2 => reset(stream),
            n => stream.write_all(&frame(&[n as u8])).unwrap(),
        }
    });
    let (mut client, count) = client(&address, PATIENCE);
    assert_eq!(client.recv().unwrap(), [0]);
    assert_eq!(client.recv().unwrap(), [3]);
    assert_eq!(count.load(Ordering::SeqCst), 4);
    server_thread.join().unwrap();
}

#[test]
fn client_waits_for_a_server_that_starts_later() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string().parse::<Address>().unwrap()
    };
    let (mut client, count) = client(&address, PATIENCE);
    let client_thread = thread::spawn(move || client.request(b"request").unwrap());
    thread::sleep(SHORT);
    let server = Server::new(
        address.listen(1).unwrap(),
        Arc::new(sessions(Config::new(Scheme::None))),
        Arc::new(NO_KEY),
        ServerOptions::default(),
    );
    let _running = Running::start(server.unwrap(), |server| server.run(|_| services::Echo));
    // The echo of the message that the hook sent.
    assert_eq!(client_thread.join().unwrap(), b"it is me");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn attempts_end_at_timeout_with_last_error() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string().parse::<Address>().unwrap()
    };
    let (mut client, count) = client(&address, SHORT);
    let begun = Instant::now();
    let failed = client.request(b"request");
    assert!(matches!(failed, Err(CallError::Connect(_))), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    assert!(matches!(client.recv(), Err(CallError::Connect(_))));
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn failed_hook_fails_the_call() {
    let (address, server_thread) = scripted_connections(1, |_, stream| {
        assert_eq!(read_all(&stream), b"");
    });
    let mut attempts = 0;
    let connector =
        connector(&address, Config::new(Scheme::None), NO_KEY).with_options(options(10 * SHORT));
    let mut client = ReconnectingClient::new(connector, backoff(), move |connection| {
        attempts += 1;
        connection.send(b"it is me")?;
        if attempts == 1 { Err(CallError::PeerFinished) } else { Ok(()) }
    });
    // The server accepts one connection, which the hook fails; then connections are refused.
    let failed = client.request(b"request");
    assert!(failed.is_err(), "{failed:?}");
    server_thread.join().unwrap();
}

#[test]
fn late_reply_is_not_returned_to_the_next_request() {
    let (go, proceed) = channel();
    let (address, server_thread) = scripted_connections(2, move |n, mut stream| {
        let request = read_frame(&stream);
        if n == 0 {
            proceed.recv_timeout(PATIENCE).unwrap();
            let _ = stream.write_all(&frame(b"late"));
        } else {
            stream.write_all(&frame(&request)).unwrap();
        }
    });
    let (mut client, _) = client(&address, SHORT);
    assert!(matches!(client.request(b"first"), Err(CallError::TimedOut)));
    go.send(()).unwrap();
    let until = Instant::now() + PATIENCE;
    let reply = loop {
        match client.request(b"second") {
            Err(CallError::TimedOut) if Instant::now() < until => {}
            reply => break reply,
        }
    };
    assert_eq!(reply.unwrap(), b"second");
    server_thread.join().unwrap();
}
