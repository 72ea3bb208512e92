use super::*;

/// The response to the challenge that [`nonce`] makes.
fn response(digest: Digest) -> Vec<u8> {
    Mac::new(digest, SECRET).tag(&[0x6e; 32]).bytes().to_vec()
}

/// A server that has asked for the key after `response`.
fn asking(digest: Digest, response: &[u8]) -> End {
    let mut server = End::server(&challenge(digest));
    assert_eq!(server.sent(), [0x6e; 32]);
    server.feed(response);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server
}

#[test]
fn client_and_server_agree_in_every_digest() {
    for &digest in Digest::ALL {
        let key = key(digest, SECRET);
        let mut server = End::server(&challenge(digest));
        let mut client = End::client(&challenge(digest));
        assert_eq!(client.sent(), b"");
        assert_eq!(server.events(), []);
        client.feed(&server.sent());
        assert_eq!(client.events(), [Event::KeyNeeded]);
        client.key(&key);
        assert_eq!(client.events(), [], "its response is not out");
        server.feed(&client.sent());
        assert_eq!(client.events(), [Event::Established]);
        assert_eq!(server.events(), [Event::KeyNeeded]);
        server.key(&key);
        assert_eq!(server.events(), [Event::Established]);
        assert!(server.session.peer().unwrap().authenticated, "{digest}");
        assert!(!client.session.peer().unwrap().authenticated, "{digest}");
        assert_eq!(server.sent(), b"", "a server says nothing to the right answer");
        assert_eq!((server.session.role(), client.session.role()), (Role::Server, Role::Client));
    }
}

#[test]
fn a_session_without_a_scheme_is_established_at_once_and_proves_nothing() {
    for framing in [Framing::Raw, Framing::U32] {
        let mut end = End::server(&framed(framing));
        assert!(end.session.peer().is_none());
        assert!(!end.session.wants_read() && !end.session.wants_write());
        assert_eq!(end.events(), [Event::Established]);
        assert!(!end.session.peer().unwrap().authenticated);
    }
}

#[test]
fn after_a_wrong_answer_nothing_at_all_is_sent() {
    for &digest in Digest::ALL {
        let wrong = Mac::new(digest, b"another key").tag(&[0x6e; 32]).bytes().to_vec();
        let mut server = asking(digest, &wrong);
        server.key(&key(digest, SECRET));
        assert_eq!(server.error(), Error::WrongKey);
        assert_eq!(server.sent(), b"");
        assert!(!server.session.wants_write() && !server.session.wants_read());
        assert!(server.session.wants_shutdown() && server.session.is_done());
        assert!(server.session.peer().is_none());
    }
}

#[test]
fn a_wrong_answer_stops_even_a_challenge_that_is_not_out() {
    let mut server = End::server(&challenge(Digest::Sha256));
    assert_eq!(server.transmit(5).len(), 5);
    server.feed(&[1; 32]);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
    assert_eq!(server.sent(), b"");
}

#[cfg(feature = "digests")]
#[test]
fn two_ends_that_differ_in_the_digest_do_not_agree() {
    // Of the same length, so that only the bytes can tell.
    let mut server = asking(Digest::Sha3_256, &response(Digest::Sha256));
    server.key(&key(Digest::Sha3_256, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
    // A longer one is cut where the expected one would end.
    let mut server = asking(Digest::Md5, &response(Digest::Sha256)[..16]);
    server.key(&key(Digest::Md5, SECRET));
    assert_eq!(server.error(), Error::WrongKey);
}

#[test]
fn either_of_two_keys_opens_and_a_third_does_not() {
    let digest = Digest::Sha256;
    let (right, other) = (key(digest, SECRET), key(digest, b"another key"));
    let third = key(digest, b"a third key");
    for (first, second, opens) in
        [(&right, &other, true), (&other, &right, true), (&other, &third, false)]
    {
        let mut server = asking(digest, &response(digest));
        server.session.provide_key(Ok(Candidates::two(first, second)), server.now).unwrap();
        match opens {
            true => assert_eq!(server.events(), [Event::Established]),
            false => assert_eq!(server.error(), Error::WrongKey),
        }
    }
}

#[test]
fn a_client_with_two_keys_proves_the_first() {
    let digest = Digest::Sha256;
    let (first, second) = (key(digest, SECRET), key(digest, b"another key"));
    let mut client = End::client(&challenge(digest));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.session.provide_key(Ok(Candidates::two(&first, &second)), client.now).unwrap();
    assert_eq!(client.sent(), response(digest));
}

#[test]
fn the_key_request_says_what_the_key_is_for_and_ends_with_the_answer() {
    for &digest in Digest::ALL {
        let mut client = End::client(&challenge(digest));
        client.feed(&[0x42; 32]);
        assert!(client.session.key_request().is_none(), "nothing is parsed but by poll_event");
        assert_eq!(client.events(), [Event::KeyNeeded]);
        let request = KeyRequest::challenge(Role::Client, digest, Challenge::Theirs(&[0x42; 32]));
        assert_eq!(client.session.key_request(), Some(request));
        client.key(&key(digest, SECRET));
        assert!(client.session.key_request().is_none());

        let mut server = asking(digest, &response(digest));
        let request = KeyRequest::challenge(Role::Server, digest, Challenge::Ours(&[0x6e; 32]));
        assert_eq!(server.session.key_request(), Some(request));
        server.key(&key(digest, SECRET));
        assert!(server.session.key_request().is_none());
    }
}

#[test]
fn a_key_that_was_not_asked_for_changes_nothing() {
    let digest = Digest::Sha256;
    let wrong = key(digest, b"another key");
    let right = key(digest, SECRET);
    let mut server = End::server(&challenge(digest));
    let offer = |server: &mut End| {
        let answer = server.session.provide_key(Ok(Candidates::one(&wrong)), server.now);
        assert_eq!(answer, Err(KeyError::NotAsked));
        let refusal = server.session.provide_key(Err(KeyRejection::Unknown), server.now);
        assert_eq!(refusal, Err(KeyError::NotAsked));
    };
    offer(&mut server);
    assert_eq!(server.sent(), [0x6e; 32]);
    server.feed(&response(digest)[..31]);
    offer(&mut server);
    server.feed(&response(digest)[31..]);
    offer(&mut server);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.key(&right);
    offer(&mut server);
    assert_eq!(server.events(), [Event::Established]);
    offer(&mut server);
    server.session.abort(CloseReason::Shutdown, server.now);
    offer(&mut server);
    assert_eq!(server.error(), Error::Aborted(CloseReason::Shutdown));
}

#[cfg(feature = "digests")]
#[test]
fn a_key_for_another_digest_changes_nothing() {
    let digest = Digest::Sha256;
    let (right, other) = (key(digest, SECRET), key(Digest::Sha3_256, SECRET));
    let mut server = asking(digest, &response(digest));
    for candidates in
        [Candidates::one(&other), Candidates::two(&right, &other), Candidates::two(&other, &right)]
    {
        let answer = server.session.provide_key(Ok(candidates), server.now);
        assert_eq!(answer, Err(KeyError::Purpose));
        assert!(server.session.key_request().is_some());
        assert_eq!(server.events(), [], "the request was announced already");
        assert_eq!(server.timeout(), Some(5_000_000), "the deadline runs on");
    }
    server.key(&right);
    assert_eq!(server.events(), [Event::Established]);
}

#[test]
fn a_refused_key_ends_the_session_without_a_word() {
    for why in [KeyRejection::Unknown, KeyRejection::Reflected] {
        let mut server = asking(Digest::Sha256, &response(Digest::Sha256));
        let mut client = End::client(&challenge(Digest::Sha256));
        client.feed(&[0x42; 32]);
        assert_eq!(client.events(), [Event::KeyNeeded]);
        for end in [&mut server, &mut client] {
            assert_eq!(end.session.provide_key(Err(why), end.now), Ok(()));
            assert_eq!(end.error(), Error::Refused(why));
            assert_eq!(end.sent(), b"");
            assert!(end.session.is_done());
        }
    }
}

#[test]
fn the_handshake_arrives_in_any_pieces() {
    let key = key(Digest::Sha256, SECRET);
    for piece in 1..=32 {
        let mut server = End::server(&challenge(Digest::Sha256));
        let mut client = End::client(&challenge(Digest::Sha256));
        for server_speaks in [true, false] {
            let (from, to) = match server_speaks {
                true => (&mut server, &mut client),
                false => (&mut client, &mut server),
            };
            while from.session.wants_write() {
                assert_eq!(to.events(), []);
                to.feed(&from.transmit(piece));
            }
            assert_eq!(from.events().len(), usize::from(!server_speaks), "pieces of {piece}");
            assert_eq!(to.events(), [Event::KeyNeeded], "pieces of {piece}");
            to.key(&key);
        }
        assert_eq!(server.events(), [Event::Established]);
    }
}

#[test]
fn a_stream_that_ends_within_the_handshake_is_truncated_at_every_byte() {
    for &digest in Digest::ALL {
        let response = response(digest);
        for len in 0..response.len() {
            let mut server = End::server(&challenge(digest));
            assert_eq!(server.sent(), [0x6e; 32]);
            server.feed(&response[..len]);
            server.eof();
            assert!(!server.session.wants_read());
            assert_eq!(server.error(), Error::Truncated(Truncated::Handshake), "at {len}");
            assert_eq!(server.sent(), b"");
        }
    }
    for len in 0..32 {
        let mut client = End::client(&challenge(Digest::Sha256));
        client.feed(&[0x42; 32][..len]);
        client.eof();
        assert_eq!(client.error(), Error::Truncated(Truncated::Handshake), "at {len}");
        assert_eq!(client.sent(), b"");
    }
}

#[test]
fn a_client_that_half_closes_behind_its_response_is_still_answered() {
    let mut server = asking(Digest::Sha256, &response(Digest::Sha256));
    server.eof();
    server.key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.events(), [Event::Established, Event::PeerFinished]);
    server.send(b"answer").unwrap();
    assert_eq!(server.sent(), b"answer");
}

#[test]
fn bytes_behind_the_response_stay_in_the_transport_and_are_data() {
    for &digest in Digest::ALL {
        let mut server = End::server(&challenge(digest));
        server.sent();
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
        assert_eq!(server.offer(b"and data"), 0, "not before the key is checked");
        server.key(&key(digest, SECRET));
        assert_eq!(server.events(), [Event::Established]);
        server.feed(&segment[read..]);
        let message = Event::Chunk { first: true, remaining: Remaining::Unknown };
        assert_eq!(server.events(), [message]);
        assert_eq!(server.chunk(), b"and data");
    }
}

#[test]
fn a_client_reads_no_further_than_the_challenge_before_it_has_answered() {
    let mut client = End::client(&challenge(Digest::Sha256));
    assert_eq!(client.offer(&[0x42; 40]), 32);
    assert_eq!(client.offer(&[0x42; 8]), 0);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    assert_eq!(client.offer(&[0x42; 8]), 0);
    client.key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.offer(&[0x42; 8]), 0);
    client.sent();
    assert_eq!(client.events(), [Event::Established]);
    assert_eq!(client.offer(&[0x42; 8]), 8);
}

#[test]
fn what_a_client_sends_at_once_follows_its_response() {
    let mut client = End::client(&challenge(Digest::Sha256));
    client.feed(&[0x6e; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.send(b"early"), Err(SendError::NotEstablished));
    assert_eq!(client.sent(), response(Digest::Sha256));
    assert_eq!(client.events(), [Event::Established]);
    client.send(b"hello").unwrap();
    client.finish();
    assert!(!client.session.wants_shutdown());
    assert_eq!(client.sent(), b"hello");
    assert!(client.session.wants_shutdown());
}

#[test]
fn a_buffer_too_small_is_refused_with_the_length_it_needs() {
    let pools = Pools::default();
    let make = |config: &Config, buffers| {
        Session::server(config, nonce(), buffers, Instant::EPOCH).map(|_| ())
    };
    let needed = Config::MIN_BUFFER;
    let buffer = Err(ConfigError::Buffer { needed });
    let raw = framed(Framing::Raw);
    assert_eq!(make(&raw, pools.buffers(needed, needed)), Ok(()));
    assert_eq!(make(&raw, pools.buffers(needed - 1, needed)), buffer);
    assert_eq!(make(&raw, pools.buffers(needed, needed - 1)), buffer);
    pools.handshake.out.set(0);
    for &digest in Digest::ALL {
        let config = challenge(digest);
        let needed = config.handshake_len();
        assert!((1..=1024).contains(&needed));
        let mut buffers = pools.buffers(64, 64);
        buffers.handshake.capacity = needed;
        assert_eq!(make(&config, buffers), Ok(()));
        let mut buffers = pools.buffers(64, 64);
        buffers.handshake.capacity = needed - 1;
        assert_eq!(make(&config, buffers), Err(ConfigError::HandshakeBuffer { needed }));
    }
}

#[test]
fn no_lease_for_a_handshake_means_no_session() {
    let pools = Pools::default();
    pools.handshake.dry.set(true);
    let config = challenge(Digest::Sha256);
    let error = Session::client(&config, nonce(), pools.buffers(64, 64), Instant::EPOCH);
    assert_eq!(error.err(), Some(ConfigError::Busy));
    assert_eq!(pools.held(), (0, 0, 0));
}

#[test]
fn bytes_that_nobody_offered_room_for_do_not_count() {
    let mut server = End::server(&challenge(Digest::Sha256));
    server.sent();
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
    server.key(&key(Digest::Sha256, SECRET));
    assert_eq!(server.events(), [Event::Established]);
}

#[test]
fn bytes_are_wanted_until_all_of_the_answer_is_in() {
    let mut server = End::server(&challenge(Digest::Sha256));
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
fn after_the_end_of_the_stream_there_is_no_room_for_more() {
    let mut server = End::server(&challenge(Digest::Sha256));
    server.eof();
    assert!(!server.session.wants_read());
    assert!(server.session.recv_space().is_empty());
}

#[test]
fn a_peer_can_be_greeted_once_the_handshake_is_over() {
    let mut client = End::client(&challenge(Digest::Sha256));
    assert!(client.session.split_peer().is_none());
    client.feed(&[7; 32]);
    assert_eq!(client.events(), [Event::KeyNeeded]);
    client.key(&key(Digest::Sha256, SECRET));
    assert_eq!(client.sent().len(), 32);
    assert_eq!(client.events(), [Event::Established]);
    let (peer, mut outbox) = client.session.split_peer().unwrap();
    assert!(!peer.authenticated, "the server has proved nothing");
    outbox.send(b"hello").unwrap();
    assert_eq!(client.sent(), b"hello");
}
