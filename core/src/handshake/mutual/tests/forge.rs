//! A server that may say anything, for it holds the key.

use super::*;

/// An M3 with the right proof, in answer to `m2`.
pub(super) struct Forged<'a> {
    pub(super) name: &'a str,
    pub(super) process_id: [u8; 16],
    pub(super) key: &'a Key,
}

impl Forged<'_> {
    pub(super) fn answer(&self, m1: &[u8], m2: &[u8]) -> Vec<u8> {
        let server = message::Server {
            name: self.name,
            process_id: &self.process_id,
            max_frame: SERVER_FRAME,
            heartbeat_ms: 0,
        };
        let mut m3 = [0; message::MAX_M3];
        message::write_server(&mut m3, &server);
        let (unproved, _) = message::split_proof(message::first(&m3));
        let kid = ClientProof::parse(m2).unwrap().kid;
        let imported = self.key.prk().unwrap().import(TAGGED, kid);
        let transcript = Transcript::new(None).absorb(m1).absorb(m2).absorb(unproved);
        let proof = imported.absorb().proof(Role::Server, &transcript.hash());
        [unproved, proof.as_slice()].concat()
    }
}
