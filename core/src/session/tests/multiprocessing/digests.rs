//! Policies: which digests the strict and the compatible mode use and accept.

use super::*;

#[test]
fn compatible_mode_accepts_legacy_peers() {
    // A peer without digest labels sends 20 bytes and always responds with unlabelled MD5.
    let legacy_message = [0x42; 20];
    for digest in digests() {
        let mut server = Endpoint::server(&compatible(digest));
        server.transmit_all();
        assert_eq!(
            server.receive(&response(Digest::Md5, SECRET, &own_message(digest), true)),
            None
        );
        assert_eq!(server.transmit_all(), frame(WELCOME));
        assert_eq!(server.receive(&challenge_frame(&legacy_message)), None);
        assert_eq!(server.transmit_all(), response(Digest::Md5, SECRET, &legacy_message, true));
        assert_eq!(server.receive(&frame(WELCOME)), Some(Ok(())));

        let mut client = Endpoint::client(&compatible(digest));
        assert_eq!(client.receive(&challenge_frame(&legacy_message)), None);
        assert_eq!(client.transmit_all(), response(Digest::Md5, SECRET, &legacy_message, true));
        assert_eq!(client.receive(&frame(WELCOME)), None);
        assert_eq!(client.transmit_all(), challenge_frame(&own_message(digest)));
        assert_eq!(
            client.receive(&response(Digest::Md5, SECRET, &own_message(digest), true)),
            None
        );
        assert_eq!(client.transmit_all(), frame(WELCOME));
        assert_eq!(client.receive(b""), Some(Ok(())));
    }
}

#[test]
fn compatible_mode_accepts_every_python_digest() {
    for own in digests() {
        for other in digests() {
            let mut server = Endpoint::server(&compatible(own));
            server.transmit_all();
            assert_eq!(server.receive(&response(other, SECRET, &own_message(own), false)), None);
            assert_eq!(server.transmit_all(), frame(WELCOME));
            assert_eq!(server.receive(&challenge_frame(&message(other))), None);
            assert_eq!(server.transmit_all(), response(other, SECRET, &message(other), false));
        }
    }
}

#[test]
fn strict_mode_accepts_only_its_own_digest() {
    for own in digests() {
        for other in digests().filter(|&other| other != own) {
            // A correct tag with another digest is rejected.
            let mut server = Endpoint::server(&strict(own));
            server.transmit_all();
            let answer = response(other, SECRET, &own_message(own), false);
            assert_eq!(server.receive(&answer), Some(Err(Error::Incompatible)));
            assert_eq!(server.transmit_all(), FAILURE_FRAME);

            let mut server = server_after_welcome(own, &strict(own));
            let result = server.receive(&challenge_frame(&message(other)));
            assert_eq!(result, Some(Err(Error::Incompatible)));
            assert_eq!(server.transmit_all(), b"");

            let mut client = Endpoint::client(&strict(own));
            let result = client.receive(&challenge_frame(&message(other)));
            assert_eq!(result, Some(Err(Error::Incompatible)));
            assert_eq!(client.transmit_all(), b"");
        }
    }
}

#[test]
fn digest_unknown_to_python_is_a_config_error() {
    for digest in [Digest::Sha1, Digest::Sha512] {
        for config in [strict(digest), compatible(digest)] {
            let pools = Pools::default();
            let session = Session::server(&config, nonce(), pools.buffers(64, 64), Instant::EPOCH);
            assert_eq!(session.err(), Some(ConfigError::Digest));
            assert_eq!(pools.held(), (0, 0, 0));
        }
    }
}
