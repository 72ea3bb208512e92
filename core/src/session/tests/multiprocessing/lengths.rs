//! Lengths of handshake frames, and truncated handshakes.

use super::*;

/// Endpoints that await a frame, at each of the three steps in either role, each with its output
/// after an invalid frame.
fn endpoints_awaiting_a_frame() -> [(Endpoint, &'static [u8]); 6] {
    let digest = Digest::Sha256;
    let config = strict(digest);
    let mut awaiting_response = Endpoint::server(&config);
    awaiting_response.transmit_all();
    let mut awaiting_verdict = server_after_welcome(digest, &config);
    awaiting_verdict.receive(&challenge_frame(&message(digest)));
    awaiting_verdict.transmit_all();
    [
        (awaiting_response, FAILURE_FRAME),
        (server_after_welcome(digest, &config), b""),
        (awaiting_verdict, b""),
        (Endpoint::client(&config), b""),
        (client_after_response(digest, &config), b""),
        (client_after_challenge(digest, &config), FAILURE_FRAME),
    ]
}

#[test]
fn invalid_handshake_length_is_rejected_at_its_header() {
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
        for (i, (mut endpoint, output)) in endpoints_awaiting_a_frame().into_iter().enumerate() {
            assert_eq!(endpoint.receive(&header), Some(Err(Error::Malformed)), "{i} {header:?}");
            assert_eq!(endpoint.transmit_all(), output, "{i}");
        }
    }
}

#[test]
fn frames_of_256_bytes_and_long_form_lengths_are_accepted() {
    for (i, (mut endpoint, _)) in endpoints_awaiting_a_frame().into_iter().enumerate() {
        assert_eq!(endpoint.receive(&256_i32.to_be_bytes()), None, "{i}");
    }
    let digest = Digest::Sha256;
    let mut client = Endpoint::client(&strict(digest));
    let body = [b"#CHALLENGE#", &message(digest)[..]].concat();
    let header = [&[0xff; 4][..], &(body.len() as u64).to_be_bytes()].concat();
    assert_eq!(client.receive(&[header, body].concat()), None);
    assert_eq!(client.transmit_all(), response(digest, SECRET, &message(digest), false));
}

#[test]
fn eof_at_every_byte_truncates_the_handshake() {
    let digest = Digest::Sha256;
    let config = strict(digest);
    let server_input = [
        response(digest, SECRET, &own_message(digest), false),
        challenge_frame(&message(digest)),
        frame(WELCOME),
    ]
    .concat();
    let client_input = [
        challenge_frame(&message(digest)),
        frame(WELCOME),
        response(digest, SECRET, &own_message(digest), false),
    ]
    .concat();
    for (input, new) in [
        (server_input, Endpoint::server as fn(&Config) -> Endpoint),
        (client_input, Endpoint::client),
    ] {
        for n in 0..input.len() {
            let mut endpoint = new(&config);
            let mut received = 0;
            // The endpoint may have to transmit before it reads on.
            while received < n {
                let step = n - received;
                assert_eq!(endpoint.receive(&input[received..received + 1]), None, "{n} {step}");
                received += 1;
                endpoint.transmit_all();
            }
            endpoint.eof();
            assert_eq!(endpoint.error(), Error::Truncated(Truncated::Handshake), "{n}");
            assert_eq!(endpoint.transmit_all(), b"", "{n}");
            assert!(endpoint.session.is_done());
        }
    }
}
