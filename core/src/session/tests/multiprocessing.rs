//! The scheme `multiprocessing` against a peer that does by hand what CPython does.

use super::*;
use crate::config::Multiprocessing;
use crate::crypto::mac::Tag;
use crate::error::Alert;
use std::string::ToString;

const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const FAILURE_FRAME: &[u8] = b"\0\0\0\x09#FAILURE#";

fn strict(digest: Digest) -> Config {
    Config::new(Scheme::Multiprocessing(Multiprocessing::new(digest)))
}

fn compatible(digest: Digest) -> Config {
    Config::new(Scheme::Multiprocessing(Multiprocessing::new(digest).compatible()))
}

/// The digests that CPython knows.
fn digests() -> impl Iterator<Item = Digest> {
    Multiprocessing::new(Digest::Sha256).compatible().digests()
}

/// As CPython names it.
fn label(digest: Digest) -> Vec<u8> {
    std::format!("{{{}}}", digest.to_string().replace('-', "_")).into_bytes()
}

/// A challenge's message, of an age in which they name their digest.
fn message(digest: Digest) -> Vec<u8> {
    [label(digest), vec![0x42; 40]].concat()
}

fn challenge_frame(message: &[u8]) -> Vec<u8> {
    frame(&[b"#CHALLENGE#", message].concat())
}

fn tag(digest: Digest, secret: &[u8], message: &[u8]) -> Tag {
    Mac::new(digest, secret).tag(message)
}

/// What a peer with `secret` answers, of an age in which responses name their digest, or `bare`.
fn response(digest: Digest, secret: &[u8], message: &[u8], bare: bool) -> Vec<u8> {
    let label = if bare { Vec::new() } else { label(digest) };
    frame(&[&label, tag(digest, secret, message).bytes()].concat())
}

/// Our own challenge's message to a peer, as the nonce makes it.
fn own(digest: Digest) -> Vec<u8> {
    #[cfg(feature = "digests")]
    if digest == Digest::Md5 {
        return vec![0x6e; 20];
    }
    [label(digest), vec![0x6e; 40]].concat()
}

/// Whether a peer that is asked with our message of `digest` answers without a name.
fn bare(digest: Digest) -> bool {
    own(digest).len() == 20
}

impl End {
    /// Has all of `bytes` read, looking for events as they come, and gives the key when asked; how
    /// the handshake ended, if it has.
    fn receive(&mut self, mut bytes: &[u8]) -> Option<Result<(), Error>> {
        loop {
            match self.poll() {
                Ok(Some(Event::KeyNeeded)) => {
                    let request = self.session.key_request().unwrap();
                    let key = Key::new(request.purpose, SECRET).unwrap();
                    self.key(&key);
                }
                Ok(Some(Event::Established)) => return Some(Ok(())),
                Ok(Some(event)) => panic!("{event:?}"),
                Err(error) => return Some(Err(error)),
                Ok(None) => match self.offer(bytes) {
                    0 => return None,
                    n => bytes = &bytes[n..],
                },
            }
        }
    }
}

/// A server that has let in whoever has [`SECRET`], and is to be challenged itself.
fn welcoming(digest: Digest, config: &Config) -> End {
    let mut server = End::server(config);
    assert_eq!(server.sent(), challenge_frame(&own(digest)));
    let answer = response(digest, SECRET, &own(digest), bare(digest));
    assert_eq!(server.receive(&answer), None);
    assert_eq!(server.sent(), frame(WELCOME));
    server
}

/// A client that has answered a challenge over `digest`.
fn answering(digest: Digest, config: &Config) -> End {
    let mut client = End::client(config);
    assert_eq!(client.sent(), b"");
    assert_eq!(client.receive(&challenge_frame(&message(digest))), None);
    assert_eq!(client.sent(), response(digest, SECRET, &message(digest), false));
    client
}

/// A client that has been welcomed and has asked in turn.
fn asking(digest: Digest, config: &Config) -> End {
    let mut client = answering(digest, config);
    assert_eq!(client.receive(&frame(WELCOME)), None);
    assert_eq!(client.sent(), challenge_frame(&own(digest)));
    client
}

#[test]
fn a_server_delivers_its_challenge_and_then_answers_the_peers() {
    for digest in digests() {
        let mut server = welcoming(digest, &strict(digest));
        assert_eq!(server.receive(&challenge_frame(&message(digest))), None);
        assert_eq!(server.sent(), response(digest, SECRET, &message(digest), false));
        assert!(server.session.peer().is_none());
        assert_eq!(server.receive(&frame(WELCOME)), Some(Ok(())));
        assert!(server.session.peer().unwrap().authenticated);
        assert_eq!(server.pools.held(), (0, 0, 0));
    }
}

#[test]
fn a_client_answers_the_peers_challenge_and_then_delivers_its_own() {
    for digest in digests() {
        let mut client = asking(digest, &strict(digest));
        let answer = response(digest, SECRET, &own(digest), bare(digest));
        assert_eq!(client.receive(&answer), None, "its welcome is not out");
        assert_eq!(client.sent(), frame(WELCOME));
        assert_eq!(client.receive(b""), Some(Ok(())));
        assert!(client.session.peer().unwrap().authenticated);
    }
}

#[test]
fn client_and_server_agree_in_every_digest_and_talk() {
    for digest in digests() {
        for config in [strict(digest), compatible(digest)] {
            let (mut server, mut client) = (End::server(&config), End::client(&config));
            let (buffers, nonce) = (client.pools.buffers(64, 64), Nonce::from_bytes([9; 40]));
            client.session = Session::client(&config, nonce, buffers, client.now).unwrap();
            let (mut served, mut asked) = (None, None);
            for _ in 0..9 {
                asked = asked.or(client.receive(&server.sent()));
                served = served.or(server.receive(&client.sent()));
            }
            assert_eq!((served, asked), (Some(Ok(())), Some(Ok(()))), "{digest}");
            client.send(b"hello").unwrap();
            assert_eq!(client.sent(), frame(b"hello"));
            server.feed(&frame(b"hello"));
            assert_eq!(server.events(), [whole()]);
        }
    }
}

#[cfg(feature = "digests")]
#[test]
fn what_is_compatible_speaks_with_old_peers_in_both_roles() {
    // From before messages named their digest: 20 bytes, MD5 without a name, whatever is asked.
    let old = [0x42; 20];
    for digest in digests() {
        let mut server = End::server(&compatible(digest));
        server.sent();
        assert_eq!(server.receive(&response(Digest::Md5, SECRET, &own(digest), true)), None);
        assert_eq!(server.sent(), frame(WELCOME));
        assert_eq!(server.receive(&challenge_frame(&old)), None);
        assert_eq!(server.sent(), response(Digest::Md5, SECRET, &old, true));
        assert_eq!(server.receive(&frame(WELCOME)), Some(Ok(())));

        let mut client = End::client(&compatible(digest));
        assert_eq!(client.receive(&challenge_frame(&old)), None);
        assert_eq!(client.sent(), response(Digest::Md5, SECRET, &old, true));
        assert_eq!(client.receive(&frame(WELCOME)), None);
        assert_eq!(client.sent(), challenge_frame(&own(digest)));
        assert_eq!(client.receive(&response(Digest::Md5, SECRET, &own(digest), true)), None);
        assert_eq!(client.sent(), frame(WELCOME));
        assert_eq!(client.receive(b""), Some(Ok(())));
    }
}

#[cfg(feature = "digests")]
#[test]
fn what_is_compatible_takes_any_digest_of_pythons_and_gives_what_is_asked() {
    for ours in digests() {
        for theirs in digests() {
            let mut server = End::server(&compatible(ours));
            server.sent();
            assert_eq!(server.receive(&response(theirs, SECRET, &own(ours), false)), None);
            assert_eq!(server.sent(), frame(WELCOME));
            assert_eq!(server.receive(&challenge_frame(&message(theirs))), None);
            assert_eq!(server.sent(), response(theirs, SECRET, &message(theirs), false));
        }
    }
}

#[cfg(feature = "digests")]
#[test]
fn what_is_strict_gives_and_takes_its_own_digest_and_no_other() {
    for ours in digests() {
        for theirs in digests().filter(|&theirs| theirs != ours) {
            // The right tag does not help.
            let mut server = End::server(&strict(ours));
            server.sent();
            let answer = response(theirs, SECRET, &own(ours), false);
            assert_eq!(server.receive(&answer), Some(Err(Error::Incompatible)));
            assert_eq!(server.sent(), FAILURE_FRAME);

            let mut server = welcoming(ours, &strict(ours));
            let asked = server.receive(&challenge_frame(&message(theirs)));
            assert_eq!(asked, Some(Err(Error::Incompatible)));
            assert_eq!(server.sent(), b"");

            let mut client = End::client(&strict(ours));
            let asked = client.receive(&challenge_frame(&message(theirs)));
            assert_eq!(asked, Some(Err(Error::Incompatible)));
            assert_eq!(client.sent(), b"");
        }
    }
}

#[test]
fn a_wrong_response_is_told_so_and_ends_either_end() {
    for digest in digests() {
        let wrong = |message: &[u8]| response(digest, b"another key", message, bare(digest));
        let mut server = End::server(&strict(digest));
        server.sent();
        assert_eq!(server.receive(&wrong(&own(digest))), Some(Err(Error::WrongKey)));
        assert!(!server.session.is_done());
        assert_eq!(server.sent(), FAILURE_FRAME);
        assert!(server.session.is_done() && server.session.wants_shutdown());

        let mut client = asking(digest, &strict(digest));
        assert_eq!(client.receive(&wrong(&own(digest))), Some(Err(Error::WrongKey)));
        assert_eq!(client.sent(), FAILURE_FRAME);
        assert!(client.session.is_done());
    }
}

#[test]
fn a_response_to_another_message_is_wrong() {
    let digest = Digest::Sha256;
    // To the random bytes alone, as before the whole message counted; and to the peer's own.
    for message in [&own(digest)[8..], &message(digest), b""] {
        let mut server = End::server(&strict(digest));
        server.sent();
        let answer = response(digest, SECRET, message, false);
        assert_eq!(server.receive(&answer), Some(Err(Error::WrongKey)));
    }
}

#[test]
fn every_flipped_bit_of_a_response_is_refused() {
    let digest = Digest::Sha256;
    let right = response(digest, SECRET, &own(digest), false);
    for bit in 32..right.len() * 8 {
        let mut wrong = right.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let mut server = End::server(&strict(digest));
        server.sent();
        assert!(server.receive(&wrong).unwrap().is_err(), "bit {bit}");
        assert_eq!(server.sent(), FAILURE_FRAME, "bit {bit}");
    }
}

#[test]
fn responses_of_every_wrong_length_are_told_so() {
    for digest in digests() {
        let right = tag(digest, SECRET, &own(digest));
        let long = [label(digest), right.bytes().to_vec(), vec![0; 256]].concat();
        let whole = label(digest).len() + digest.tag_len();
        for len in (0..=256).filter(|&len| len != whole) {
            let mut server = End::server(&strict(digest));
            server.sent();
            assert!(server.receive(&frame(&long[..len])).unwrap().is_err(), "{digest} {len}");
            assert_eq!(server.sent(), FAILURE_FRAME, "{digest} {len}");
            let mut client = asking(digest, &strict(digest));
            assert!(client.receive(&frame(&long[..len])).unwrap().is_err(), "{digest} {len}");
            assert_eq!(client.sent(), FAILURE_FRAME, "{digest} {len}");
        }
    }
}

#[test]
fn challenges_of_every_length_up_to_256_bytes_are_answered_from_20_on() {
    let digest = Digest::Sha256;
    for len in 0..=245 {
        let message = [label(digest), vec![0x42; 245]].concat()[..len].to_vec();
        let mut client = End::client(&strict(digest));
        let asked = client.receive(&challenge_frame(&message));
        match len {
            ..20 => assert_eq!(asked, Some(Err(Error::Malformed)), "{len}"),
            20 => assert_eq!(asked, Some(Err(Error::Incompatible))),
            _ => {
                assert_eq!(asked, None, "{len}");
                assert_eq!(client.sent(), response(digest, SECRET, &message, false));
            }
        }
    }
}

#[test]
fn challenges_that_are_none_are_not_answered() {
    let digest = Digest::Sha256;
    for body in
        [&b""[..], b"#CHALLENGE", b"#challenge#{sha256}0123456789abcdef0123", WELCOME, FAILURE]
    {
        let mut client = End::client(&strict(digest));
        assert_eq!(client.receive(&frame(body)), Some(Err(Error::Malformed)));
        assert_eq!(client.sent(), b"");
        let mut server = welcoming(digest, &strict(digest));
        assert_eq!(server.receive(&frame(body)), Some(Err(Error::Malformed)));
        assert_eq!(server.sent(), b"");
    }
}

#[test]
fn what_the_peer_makes_of_our_response_is_welcome_or_failure() {
    let digest = Digest::Sha256;
    let heard = |body: &[u8]| {
        let mut client = answering(digest, &strict(digest));
        let client = (client.receive(&frame(body)), client.sent());
        let mut server = welcoming(digest, &strict(digest));
        server.receive(&challenge_frame(&message(digest)));
        server.sent();
        let server = (server.receive(&frame(body)), server.sent());
        assert_eq!(client, server);
        client
    };
    assert_eq!(heard(FAILURE), (Some(Err(Error::Alert(Alert::Refused))), vec![]));
    for body in
        [&b""[..], b"#WELCOME", b"#WELCOME##", b"something bogus", b"#CHALLENGE#", &[0; 256]]
    {
        assert_eq!(heard(body), (Some(Err(Error::Malformed)), vec![]));
    }
}

/// Ends that are to hear a frame, at each of the three places in either role, and what they say if
/// it is not one.
fn waiting() -> [(End, &'static [u8]); 6] {
    let digest = Digest::Sha256;
    let config = strict(digest);
    let mut responding = End::server(&config);
    responding.sent();
    let mut answered = welcoming(digest, &config);
    answered.receive(&challenge_frame(&message(digest)));
    answered.sent();
    [
        (responding, FAILURE_FRAME),
        (welcoming(digest, &config), b""),
        (answered, b""),
        (End::client(&config), b""),
        (answering(digest, &config), b""),
        (asking(digest, &config), FAILURE_FRAME),
    ]
}

#[test]
fn a_frame_over_256_bytes_or_of_a_negative_length_ends_the_handshake_by_its_header() {
    let long = |n: u64| [&[0xff; 4][..], &n.to_be_bytes()].concat();
    let headers = [
        257_i32.to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        (-2_i32).to_be_bytes().to_vec(),
        i32::MIN.to_be_bytes().to_vec(),
        long(257),
        long(u64::MAX),
        long(1 << 32),
    ];
    for header in headers {
        for (i, (mut end, says)) in waiting().into_iter().enumerate() {
            assert_eq!(end.receive(&header), Some(Err(Error::Malformed)), "{i} {header:?}");
            assert_eq!(end.sent(), says, "{i}");
        }
    }
}

#[test]
fn a_frame_of_256_bytes_is_taken_and_the_long_form_of_a_length_too() {
    for (i, (mut end, _)) in waiting().into_iter().enumerate() {
        assert_eq!(end.receive(&256_i32.to_be_bytes()), None, "{i}");
    }
    let digest = Digest::Sha256;
    let mut client = End::client(&strict(digest));
    let body = [b"#CHALLENGE#", &message(digest)[..]].concat();
    let header = [&[0xff; 4][..], &(body.len() as u64).to_be_bytes()].concat();
    assert_eq!(client.receive(&[header, body].concat()), None);
    assert_eq!(client.sent(), response(digest, SECRET, &message(digest), false));
}

#[test]
fn an_end_of_stream_at_every_byte_is_a_truncated_handshake() {
    let digest = Digest::Sha256;
    let config = strict(digest);
    let server_hears = [
        response(digest, SECRET, &own(digest), false),
        challenge_frame(&message(digest)),
        frame(WELCOME),
    ]
    .concat();
    let client_hears = [
        challenge_frame(&message(digest)),
        frame(WELCOME),
        response(digest, SECRET, &own(digest), false),
    ]
    .concat();
    for (hears, make) in
        [(server_hears, End::server as fn(&Config) -> End), (client_hears, End::client)]
    {
        for n in 0..hears.len() {
            let mut end = make(&config);
            let mut heard = 0;
            // Reading no more than it wants, it may have to speak first.
            while heard < n {
                let step = n - heard;
                assert_eq!(end.receive(&hears[heard..heard + 1]), None, "{n} {step}");
                heard += 1;
                end.sent();
            }
            end.eof();
            assert_eq!(end.error(), Error::Truncated(Truncated::Handshake), "{n}");
            assert_eq!(end.sent(), b"", "{n}");
            assert!(end.session.is_done());
        }
    }
}

#[test]
fn an_end_that_gets_its_own_challenge_back_refuses_to_answer() {
    let digest = Digest::Sha256;
    let mut server = welcoming(digest, &strict(digest));
    let reflected = Some(Err(Error::Refused(KeyRejection::Reflected)));
    assert_eq!(server.receive(&challenge_frame(&own(digest))), reflected);
    assert_eq!(server.sent(), b"");
    // Nobody can know a client's yet, unless its nonces repeat.
    let mut client = End::client(&strict(digest));
    assert_eq!(client.receive(&challenge_frame(&own(digest))), reflected);
    assert_eq!(client.sent(), b"");
}

#[test]
fn key_requests_say_whose_challenge_it_is() {
    let digest = Digest::Sha256;
    let request = |end: &mut End| {
        assert_eq!(end.events(), [Event::KeyNeeded]);
        let request = end.session.key_request().unwrap();
        assert_eq!((request.key_id, request.name), (None, None));
        match request.challenge.unwrap() {
            Challenge::Ours(bytes) => (request.role, true, bytes.to_vec()),
            Challenge::Theirs(bytes) => (request.role, false, bytes.to_vec()),
        }
    };
    let feed = |end: &mut End, bytes: &[u8]| {
        end.feed(&bytes[..4]);
        assert_eq!(end.events(), []);
        end.feed(&bytes[4..]);
    };
    let mut server = End::server(&strict(digest));
    server.sent();
    feed(&mut server, &response(digest, SECRET, &own(digest), false));
    assert_eq!(request(&mut server), (Role::Server, true, own(digest)));
    server.key(&key(digest, SECRET));
    server.sent();
    feed(&mut server, &challenge_frame(&message(digest)));
    assert_eq!(request(&mut server), (Role::Server, false, message(digest)));

    let mut client = End::client(&strict(digest));
    feed(&mut client, &challenge_frame(&message(digest)));
    assert_eq!(request(&mut client), (Role::Client, false, message(digest)));
}

#[test]
fn a_sessions_own_challenge_is_known_from_the_start_until_it_is_of_no_use() {
    let digest = Digest::Sha256;
    let mut client = End::client(&strict(digest));
    assert_eq!(client.session.challenge(), Some(&own(digest)[..]));
    client.receive(&challenge_frame(&message(digest)));
    client.receive(&frame(WELCOME));
    client.sent();
    assert_eq!(client.session.challenge(), Some(&own(digest)[..]));
    client.receive(&response(digest, SECRET, &own(digest), false));
    assert_eq!(client.session.challenge(), None);

    let mut server = End::server(&strict(digest));
    assert_eq!(server.session.challenge(), Some(&own(digest)[..]));
    server.session.abort(CloseReason::Shutdown, server.now);
    assert_eq!(server.session.challenge(), None);
    assert_eq!(End::server(&challenge(digest)).session.challenge(), None);
}

#[test]
fn a_refused_key_is_told_as_a_wrong_response_and_not_at_all_where_nothing_is_owed() {
    let digest = Digest::Sha256;
    let refuse = |end: &mut End, bytes: &[u8]| {
        end.feed(&bytes[..4]);
        assert_eq!(end.events(), []);
        end.feed(&bytes[4..]);
        assert_eq!(end.events(), [Event::KeyNeeded]);
        end.session.provide_key(Err(KeyRejection::Unknown), end.now).unwrap();
        assert_eq!(end.error(), Error::Refused(KeyRejection::Unknown));
        end.sent()
    };
    let mut server = End::server(&strict(digest));
    server.sent();
    let right = response(digest, SECRET, &own(digest), false);
    assert_eq!(refuse(&mut server, &right), FAILURE_FRAME);
    let mut client = End::client(&strict(digest));
    assert_eq!(refuse(&mut client, &challenge_frame(&message(digest))), b"");
}

#[test]
fn who_was_late_or_cut_off_is_told_nothing() {
    let digest = Digest::Sha256;
    let mut late = End::server(&strict(digest));
    late.sent();
    late.at(5_000_000);
    assert_eq!(late.error(), Error::TimedOut(TimedOut::Handshake));
    assert_eq!(late.sent(), b"");
    let mut stopped = End::server(&strict(digest));
    stopped.sent();
    stopped.session.abort(CloseReason::Shutdown, stopped.now);
    assert_eq!(stopped.error(), Error::Aborted(CloseReason::Shutdown));
    assert_eq!(stopped.sent(), b"");
}

#[test]
fn half_a_challenge_is_followed_by_no_failure() {
    let digest = Digest::Sha256;
    let mut server = End::server(&strict(digest));
    assert_eq!(server.transmit(9).len(), 9);
    let answer = response(digest, b"another key", &own(digest), false);
    assert_eq!(server.receive(&answer), Some(Err(Error::WrongKey)));
    assert_eq!(server.sent(), b"");
}

#[test]
fn bytes_behind_the_handshake_are_messages() {
    let digest = Digest::Sha256;
    let mut server = welcoming(digest, &strict(digest));
    server.receive(&challenge_frame(&message(digest)));
    server.sent();
    let bytes = [frame(WELCOME), frame(b"at once")].concat();
    // The header, then the verdict; never a byte of what follows.
    assert_eq!(server.offer(&bytes), 4);
    assert_eq!(server.events(), []);
    assert_eq!(server.offer(&bytes[4..]), 9);
    assert_eq!(server.events(), [Event::Established]);
    server.feed(&bytes[13..]);
    assert_eq!(server.events(), [whole()]);
    assert_eq!(server.chunk(), b"at once");
}

#[cfg(feature = "digests")]
#[test]
fn digests_that_python_does_not_know_are_no_configuration() {
    for digest in [Digest::Sha1, Digest::Sha512] {
        for config in [strict(digest), compatible(digest)] {
            let pools = Pools::default();
            let session = Session::server(&config, nonce(), pools.buffers(64, 64), Instant::EPOCH);
            assert_eq!(session.err(), Some(ConfigError::Digest));
            assert_eq!(pools.held(), (0, 0, 0));
        }
    }
}
