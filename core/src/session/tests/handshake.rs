//! The scheme `challenge`, and sessions without a scheme.

use super::*;

/// The response to the challenge that the server makes of [`nonce`].
fn response(digest: Digest) -> Vec<u8> {
    Mac::new(digest, SECRET).tag(&[0x6e; 32]).bytes().to_vec()
}

/// A server that has received `response` and requests the key.
fn server_awaiting_key(digest: Digest, response: &[u8]) -> Endpoint {
    let mut server = Endpoint::server(&challenge(digest));
    assert_eq!(server.transmit_all(), [0x6e; 32]);
    server.feed(response);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server
}

#[test]
fn challenge_succeeds_with_every_digest() {
    for &digest in Digest::ALL {
        let key = key(digest, SECRET);
        let mut server = Endpoint::server(&challenge(digest));
        let mut client = Endpoint::client(&challenge(digest));
        assert_eq!(client.transmit_all(), b"");
        assert_eq!(server.events(), []);
        client.feed(&server.transmit_all());
        assert_eq!(client.events(), [Event::KeyNeeded]);
        client.provide_key(&key);
        assert_eq!(client.events(), [], "its response is not transmitted yet");
        server.feed(&client.transmit_all());
        assert_eq!(client.events(), [Event::Established]);
        assert_eq!(server.events(), [Event::KeyNeeded]);
        server.provide_key(&key);
        assert_eq!(server.events(), [Event::Established]);
        assert!(server.session.peer().unwrap().authenticated, "{digest}");
        assert!(!client.session.peer().unwrap().authenticated, "{digest}");
        assert_eq!(server.transmit_all(), b"", "a server does not answer the right response");
        assert_eq!((server.session.role(), client.session.role()), (Role::Server, Role::Client));
    }
}

#[test]
fn session_without_a_scheme_is_unauthenticated_at_once() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut endpoint = Endpoint::server(&framed(framing));
        assert!(endpoint.session.peer().is_none());
        assert!(!endpoint.session.wants_read() && !endpoint.session.wants_write());
        assert_eq!(endpoint.events(), [Event::Established]);
        assert!(!endpoint.session.peer().unwrap().authenticated);
    }
}

#[test]
fn server_sends_nothing_after_a_wrong_response() {
    for &digest in Digest::ALL {
        let wrong = Mac::new(digest, b"another key").tag(&[0x6e; 32]).bytes().to_vec();
        let mut server = server_awaiting_key(digest, &wrong);
        server.provide_key(&key(digest, SECRET));
        assert_eq!(server.error(), Error::WrongKey);
        assert_eq!(server.transmit_all(), b"");
        assert!(!server.session.wants_write() && !server.session.wants_read());
        assert!(server.session.wants_shutdown() && server.session.is_done());
        assert!(server.session.peer().is_none());
    }
}

#[test]
fn wrong_response_drops_the_rest_of_the_challenge() {
    let mut server = Endpoint::server(&challenge(Digest::Sha256));
    assert_eq!(server.transmit(5).len(), 5);
    server.feed(&[1; 32]);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
    assert_eq!(server.transmit_all(), b"");
}

#[cfg(feature = "digests")]
#[test]
fn differing_digests_fail_with_wrong_key() {
    // The tags have the same length, so only their bytes differ.
    let mut server = server_awaiting_key(Digest::Sha3_256, &response(Digest::Sha256));
    server.provide_key(&key(Digest::Sha3_256, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
    // The server reads only as many bytes of a longer tag as it expects.
    let mut server = server_awaiting_key(Digest::Md5, &response(Digest::Sha256)[..16]);
    server.provide_key(&key(Digest::Md5, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
}

#[test]
fn either_of_two_candidate_keys_authenticates() {
    let digest = Digest::Sha256;
    let (right, other) = (key(digest, SECRET), key(digest, b"another key"));
    let third = key(digest, b"a third key");
    for (first, second, accepted) in
        [(&right, &other, true), (&other, &right, true), (&other, &third, false)]
    {
        let mut server = server_awaiting_key(digest, &response(digest));
        server.session.provide_key(Ok(Candidates::two(first, second)), server.now).unwrap();
        match accepted {
            true => assert_eq!(server.events(), [Event::Established]),
            false => assert_eq!(server.error(), Error::WrongKey),
        }
    }
}

#[test]
fn client_with_two_keys_responds_with_the_first() {
    let digest = Digest::Sha256;
    let (first, second) = (key(digest, SECRET), key(digest, b"another key"));
    let mut client = Endpoint::client(&challenge(digest));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.session.provide_key(Ok(Candidates::two(&first, &second)), client.now).unwrap();
    assert_eq!(client.transmit_all(), response(digest));
}

#[test]
fn key_request_describes_the_challenge_until_answered() {
    for &digest in Digest::ALL {
        let mut client = Endpoint::client(&challenge(digest));
        client.feed(&[0x42; 32]);
        assert!(client.session.key_request().is_none(), "bytes are parsed only by `poll_event`");
        assert_eq!(client.events(), [Event::KeyNeeded]);
        let request = KeyRequest::challenge(Role::Client, digest, Challenge::Theirs(&[0x42; 32]));
        assert_eq!(client.session.key_request(), Some(request));
        client.provide_key(&key(digest, SECRET));
        assert!(client.session.key_request().is_none());

        let mut server = server_awaiting_key(digest, &response(digest));
        let request = KeyRequest::challenge(Role::Server, digest, Challenge::Ours(&[0x6e; 32]));
        assert_eq!(server.session.key_request(), Some(request));
        server.provide_key(&key(digest, SECRET));
        assert!(server.session.key_request().is_none());
    }
}

#[test]
fn unrequested_key_is_rejected() {
    let digest = Digest::Sha256;
    let wrong = key(digest, b"another key");
    let right = key(digest, SECRET);
    let mut server = Endpoint::server(&challenge(digest));
    let assert_key_rejected = |server: &mut Endpoint| {
        let answer = server.session.provide_key(Ok(Candidates::one(&wrong)), server.now);
        assert_eq!(answer, Err(KeyError::NotAsked));
        let refusal = server.session.provide_key(Err(KeyRejection::Unknown), server.now);
        assert_eq!(refusal, Err(KeyError::NotAsked));
    };
    assert_key_rejected(&mut server);
    assert_eq!(server.transmit_all(), [0x6e; 32]);
    server.feed(&response(digest)[..31]);
    assert_key_rejected(&mut server);
    server.feed(&response(digest)[31..]);
    assert_key_rejected(&mut server);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.provide_key(&right);
    assert_key_rejected(&mut server);
    assert_eq!(server.events(), [Event::Established]);
    assert_key_rejected(&mut server);
    server.session.abort(CloseReason::Shutdown, server.now);
    assert_key_rejected(&mut server);
    assert_eq!(server.error(), Error::Aborted(CloseReason::Shutdown));
}

#[cfg(feature = "digests")]
#[test]
fn key_for_another_digest_is_rejected() {
    let digest = Digest::Sha256;
    let (right, other) = (key(digest, SECRET), key(Digest::Sha3_256, SECRET));
    let mut server = server_awaiting_key(digest, &response(digest));
    for candidates in
        [Candidates::one(&other), Candidates::two(&right, &other), Candidates::two(&other, &right)]
    {
        let answer = server.session.provide_key(Ok(candidates), server.now);
        assert_eq!(answer, Err(KeyError::Purpose));
        assert!(server.session.key_request().is_some());
        assert_eq!(server.events(), [], "`KeyNeeded` is emitted once");
        assert_eq!(server.timeout(), Some(5_000_000), "the deadline is unchanged");
    }
    server.provide_key(&right);
    assert_eq!(server.events(), [Event::Established]);
}

#[test]
fn key_rejection_ends_the_session_silently() {
    for reason in [KeyRejection::Unknown, KeyRejection::Reflected] {
        let mut server = server_awaiting_key(Digest::Sha256, &response(Digest::Sha256));
        let mut client = Endpoint::client(&challenge(Digest::Sha256));
        client.feed(&[0x42; 32]);
        assert_eq!(client.events(), [Event::KeyNeeded]);
        for endpoint in [&mut server, &mut client] {
            assert_eq!(endpoint.session.provide_key(Err(reason), endpoint.now), Ok(()));
            assert_eq!(endpoint.error(), Error::Refused(reason));
            assert_eq!(endpoint.transmit_all(), b"");
            assert!(endpoint.session.is_done());
        }
    }
}

#[test]
fn handshake_completes_with_any_chunking() {
    let key = key(Digest::Sha256, SECRET);
    for chunk_len in 1..=32 {
        let mut server = Endpoint::server(&challenge(Digest::Sha256));
        let mut client = Endpoint::client(&challenge(Digest::Sha256));
        for server_sends in [true, false] {
            let (from, to) = match server_sends {
                true => (&mut server, &mut client),
                false => (&mut client, &mut server),
            };
            while from.session.wants_write() {
                assert_eq!(to.events(), []);
                to.feed(&from.transmit(chunk_len));
            }
            assert_eq!(from.events().len(), usize::from(!server_sends), "chunks of {chunk_len}");
            assert_eq!(to.events(), [Event::KeyNeeded], "chunks of {chunk_len}");
            to.provide_key(&key);
        }
        assert_eq!(server.events(), [Event::Established]);
    }
}

#[test]
fn eof_within_the_challenge_handshake_is_truncated() {
    for &digest in Digest::ALL {
        let response = response(digest);
        for len in 0..response.len() {
            let mut server = Endpoint::server(&challenge(digest));
            assert_eq!(server.transmit_all(), [0x6e; 32]);
            server.feed(&response[..len]);
            server.eof();
            assert!(!server.session.wants_read());
            assert_eq!(server.error(), Error::Truncated(Truncated::Handshake), "at {len}");
            assert_eq!(server.transmit_all(), b"");
        }
    }
    for len in 0..32 {
        let mut client = Endpoint::client(&challenge(Digest::Sha256));
        client.feed(&[0x42; 32][..len]);
        client.eof();
        assert_eq!(client.error(), Error::Truncated(Truncated::Handshake), "at {len}");
        assert_eq!(client.transmit_all(), b"");
    }
}

#[test]
fn client_that_half_closes_is_still_served() {
    let mut server = server_awaiting_key(Digest::Sha256, &response(Digest::Sha256));
    server.eof();
    server.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.events(), [Event::Established, Event::PeerFinished]);
    server.send(b"answer").unwrap();
    assert_eq!(server.transmit_all(), b"answer");
}

#[test]
fn bytes_after_the_response_stay_unread_until_established() {
    for &digest in Digest::ALL {
        let mut server = Endpoint::server(&challenge(digest));
        server.transmit_all();
        let mut segment = response(digest);
        segment.extend_from_slice(b"and data");
        let mut read = 0;
        while read < digest.tag_len() {
            assert_eq!(server.session.recv_space().len(), digest.tag_len() - read);
            read += server.offer(&segment[read..][..1.max((segment.len() - read) / 2)]);
        }
        assert_eq!(read, digest.tag_len());
        assert!(!server.session.wants_read());
        assert_eq!(server.offer(b"and data"), 0);
        assert_eq!(server.events(), [Event::KeyNeeded]);
        assert_eq!(server.offer(b"and data"), 0, "the key is not verified yet");
        server.provide_key(&key(digest, SECRET));
        assert_eq!(server.events(), [Event::Established]);
        server.feed(&segment[read..]);
        let message = Event::Chunk { first: true, remaining: Remaining::Unknown };
        assert_eq!(server.events(), [message]);
        assert_eq!(server.chunk(), b"and data");
    }
}

#[test]
fn client_reads_only_the_challenge_before_responding() {
    let mut client = Endpoint::client(&challenge(Digest::Sha256));
    assert_eq!(client.offer(&[0x42; 40]), 32);
    assert_eq!(client.offer(&[0x42; 8]), 0);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    assert_eq!(client.offer(&[0x42; 8]), 0);
    client.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.offer(&[0x42; 8]), 0);
    client.transmit_all();
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.offer(&[0x42; 8]), 8);
}

#[test]
fn client_messages_follow_its_response() {
    let mut client = Endpoint::client(&challenge(Digest::Sha256));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(client.transmit_all(), response(Digest::Sha256));
    assert_eq!(client.events(), [Event::Established]);
    client.send(b"hello").unwrap();
    client.finish();
    assert!(!client.session.wants_shutdown());
    assert_eq!(client.transmit_all(), b"hello");
    assert!(client.session.wants_shutdown());
}

#[test]
fn small_buffer_is_rejected_with_the_needed_length() {
    let pools = Pools::default();
    let new_session = |config: &Config, buffers| {
        Session::server(config, nonce(), buffers, Instant::EPOCH).map(|_| ())
    };
    let needed = Config::MIN_BUFFER;
    let buffer = Err(ConfigError::Buffer { needed });
    let raw = framed(Framing::Raw);
    assert_eq!(new_session(&raw, pools.buffers(needed, needed)), Ok(()));
    assert_eq!(new_session(&raw, pools.buffers(needed - 1, needed)), buffer);
    assert_eq!(new_session(&raw, pools.buffers(needed, needed - 1)), buffer);
    pools.handshake.leased.set(0);
    for &digest in Digest::ALL {
        let config = challenge(digest);
        let needed = config.handshake_len();
        assert!((1..=1024).contains(&needed));
        let mut buffers = pools.buffers(64, 64);
        buffers.handshake.capacity = needed;
        assert_eq!(new_session(&config, buffers), Ok(()));
        let mut buffers = pools.buffers(64, 64);
        buffers.handshake.capacity = needed - 1;
        assert_eq!(new_session(&config, buffers), Err(ConfigError::HandshakeBuffer { needed }));
    }
}

#[test]
fn missing_handshake_lease_is_config_error_busy() {
    let pools = Pools::default();
    pools.handshake.exhausted.set(true);
    let config = challenge(Digest::Sha256);
    let error = Session::client(&config, nonce(), pools.buffers(64, 64), Instant::EPOCH);
    assert_eq!(error.err(), Some(ConfigError::Busy));
    assert_eq!(pools.held(), (0, 0, 0));
}

#[test]
fn handshake_bytes_are_capped_at_the_offered_space() {
    let mut server = Endpoint::server(&challenge(Digest::Sha256));
    server.transmit_all();
    let space = server.session.recv_space();
    space[..32].copy_from_slice(&response(Digest::Sha256));
    server.session.handle_received(0, server.now);
    assert_eq!(server.events(), []);
    server.feed(&response(Digest::Sha256)[..31]);
    let space = server.session.recv_space();
    assert_eq!(space.len(), 1);
    space[0] = response(Digest::Sha256)[31];
    server.session.handle_received(usize::MAX, server.now);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.events(), [Event::Established]);
}

#[test]
fn server_wants_read_until_the_response_is_complete() {
    let mut server = Endpoint::server(&challenge(Digest::Sha256));
    assert!(server.session.wants_read());
    server.feed(&[1; 31]);
    assert_eq!(server.events(), []);
    assert!(server.session.wants_read());
    server.feed(&[1]);
    assert!(!server.session.wants_read());
    assert_eq!(server.events(), [Event::KeyNeeded]);
    assert!(!server.session.wants_read());
}

#[test]
fn no_receive_space_after_eof() {
    let mut server = Endpoint::server(&challenge(Digest::Sha256));
    server.eof();
    assert!(!server.session.wants_read());
    assert!(server.session.recv_space().is_empty());
}

#[test]
fn split_peer_is_available_once_established() {
    let mut client = Endpoint::client(&challenge(Digest::Sha256));
    assert!(client.session.split_peer().is_none());
    client.feed(&[7; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.provide_key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.transmit_all().len(), 32);
    assert_eq!(client.events(), [Event::Established]);
    let (peer, mut outbox) = client.session.split_peer().unwrap();
    assert!(!peer.authenticated, "the server is not authenticated");
    outbox.send(b"hello").unwrap();
    assert_eq!(client.transmit_all(), b"hello");
}
