//! A server with the right key that may claim any identity.

use super::*;

/// The identity that the server claims, and the key of its proof.
pub(super) struct ForgedServer<'a> {
    pub(super) name: &'a str,
    pub(super) process_id: [u8; 16],
    pub(super) key: &'a Key,
}

impl ForgedServer<'_> {
    /// An M3 with a valid proof for `m1` and `m2`.
    pub(super) fn m3(&self, m1: &[u8], m2: &[u8]) -> Vec<u8> {
        let server = message::Server {
            name: self.name,
            process_id: &self.process_id,
            max_frame: SERVER_FRAME,
            heartbeat_ms: 0,
        };
        let mut m3 = [0; message::MAX_M3];
        message::write_server(&mut m3, &server);
        let (without_proof, _) = message::split_proof(message::first(&m3));
        let key_id = ClientProof::parse(m2).unwrap().kid;
        let imported = self.key.prk().unwrap().import(TAGGED, key_id);
        let transcript = Transcript::new(None).absorb(m1).absorb(m2).absorb(without_proof);
        let proof = imported.absorb().proof(Role::Server, &transcript.hash());
        [without_proof, proof.as_slice()].concat()
    }
}
