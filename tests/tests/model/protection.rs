//! The protections of the scheme `mutual` that the model check removes from its copy of the core.

use std::cell::Cell;

/// A check or an input of the protocol that stops an attack. Its patch in protections/ states which
/// attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protection {
    ServerChecksOwnName,
    ServerChecksOwnProcessId,
    ClientChecksOwnName,
    ClientChecksOwnProcessId,
    ServerChecksExpectedName,
    ClientChecksExpectedName,
    ServerVerifiesProof,
    ClientVerifiesProof,
    ProofsCoverServerHello,
    ServerProofCoversM2,
    ServerProofCoversM3,
    ServerSendsFreshNonce,
    ClientSendsFreshNonce,
    ProofsHaveRoleLabels,
    DirectionsHaveOwnKeys,
    SessionKeyCoversTranscript,
    TranscriptCoversExporter,
    TranscriptCoversBinding,
    ImportCoversKeyId,
    TagCoversSequenceNumber,
    ReceiverVerifiesTag,
}

thread_local! {
    /// One bit for each protection that this thread has removed.
    static REMOVED: Cell<u32> = const { Cell::new(0) };
}

impl Protection {
    /// Returns the name of the patch that makes the protection removable.
    pub(crate) fn patch(&self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name + ".patch"
    }

    /// Whether the copy of the core, run by this thread, has the protection.
    pub(crate) fn is_on(self) -> bool {
        REMOVED.get() & (1 << self as u32) == 0
    }
}

/// Returns the result of `run` with `protections` removed from the copy of the core.
pub(crate) fn without<T>(protections: &[Protection], run: impl FnOnce() -> T) -> T {
    REMOVED.set(protections.iter().fold(0, |removed, &one| removed | 1 << one as u32));
    let result = run();
    REMOVED.set(0);
    result
}
