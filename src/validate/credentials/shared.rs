//! What replicas that share a secret can tell each other of a sender: keys and marks that are the same on all
//! of them, and useless without the secret. It decides what is told; the verdict cache's digests never are.

use std::path::Path;

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroizing;

use crate::validate::{BuildError, signer::read_secret};

use super::{Credentials, Digester, Proof, Purpose, hash};

const SECRET_KEY: &str = "limits.store.secret_file";

/// What the key for limits is derived by: an operator may use one secret for two things.
const LABEL: &[u8] = b"spangate limits";

/// Stands for one token pair at one authority in front of all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; 16]);

/// The sum over what a replica says of a mark.
const SEAL: usize = 16;

impl Digester {
    /// A digester whose keys for limits are those of all replicas with this secret; its digests of whole
    /// credentials stay its own.
    ///
    /// # Errors
    /// [`BuildError::File`] when the file holds no 32 bytes in base64.
    pub fn sharing(secret_file: &Path) -> Result<Self, BuildError> {
        Ok(Self::random().with_secret(&read_secret(SECRET_KEY, secret_file)?))
    }

    fn with_secret(self, secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = Zeroizing::new(hash(&secret, Purpose::Key, &[LABEL]));
        Self { limits: hmac::Key::new(hmac::HMAC_SHA256, &*derived), ..self }
    }

    /// A job's key where nothing but its token pair names it.
    pub(in crate::validate) fn job_of(&self, credentials: &Credentials) -> u64 {
        match &credentials.proof {
            Proof::Pair { runner_token, job_token } => self.hash64(Purpose::Job, &[runner_token, job_token]),
            Proof::Bearer(token) => self.hash64(Purpose::Job, &[token]),
            Proof::Trusted(_) => self.hash64(Purpose::Job, &[credentials.digest().as_bytes()]),
        }
    }

    /// The mark of a token pair at the authority that `authority` names; `None` for other credentials.
    #[must_use]
    pub fn mark(&self, authority: &[u8], credentials: &Credentials) -> Option<Mark> {
        let pair = credentials.pair()?;
        let hash = hash(&self.limits, Purpose::Denial, &[authority, pair.runner_token, pair.job_token]);
        hash.first_chunk().copied().map(Mark)
    }

    /// Adds what proves that a holder of the secret said `word` of this mark.
    #[must_use]
    pub fn seal(&self, mark: Mark, word: &[u8]) -> Vec<u8> {
        let seal = hash(&self.limits, Purpose::Seal, &[&mark.0, word]);
        word.iter().chain(seal.iter().take(SEAL)).copied().collect()
    }

    /// The word of a holder of the secret about this mark; `None` for anybody else's.
    #[must_use]
    pub fn unseal<'a>(&self, mark: Mark, sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (word, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL)?)?;
        let wanted = hash(&self.limits, Purpose::Seal, &[&mark.0, word]);
        constant_time::verify_slices_are_equal(wanted.get(..SEAL)?, seal).ok().map(|()| word)
    }
}

impl std::fmt::Debug for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mark")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::credentials::test_support::{bearer, pair};

    fn replica(secret: u8) -> Digester {
        Digester::random().with_secret(&[secret; 32])
    }

    /// Scenario: two replicas with one secret, one with another, one without; the same credentials at all.
    /// Guarantees: keys for limits and marks are equal exactly where the secret is; digests of whole credentials
    /// never are; a mark is of one pair at one authority.
    #[test]
    fn only_holders_of_one_secret_agree() {
        let all = [replica(1), replica(1), replica(2), Digester::random()];
        let [first, second, third, alone] = all.each_ref().map(|digester| {
            let pair = pair(digester, "runner", "job");
            let keys = (pair.runner_key(), digester.key(&[b"job"]), digester.job_of(&pair));
            (keys, digester.mark(b"gitlab", &pair).unwrap(), pair.digest())
        });
        assert_eq!((first.0, first.1), (second.0, second.1));
        assert_ne!(first.2, second.2);
        for (keys, mark, _) in [third, alone] {
            assert_ne!(keys.0, first.0.0);
            assert_ne!(keys.1, first.0.1);
            assert_ne!(keys.2, first.0.2);
            assert_ne!(mark, first.1);
        }
        let [digester, ..] = &all;
        let others = [("runner", "other"), ("other", "job"), ("runnerj", "ob")];
        for (runner, job) in others {
            assert_ne!(digester.mark(b"gitlab", &pair(digester, runner, job)), Some(first.1));
        }
        assert_ne!(digester.mark(b"another", &pair(digester, "runner", "job")), Some(first.1));
        assert_eq!(digester.mark(b"gitlab", &bearer(digester, "token")), None);
    }

    /// Scenario: a sealed word as it was written, with each byte changed, cut short, under another mark, by a holder
    /// of another secret.
    /// Guarantees: only the unchanged word of a holder about this very mark is read.
    #[test]
    fn a_seal_is_of_one_word_about_one_mark() {
        let digester = replica(1);
        let (mark, other) = (Mark([1; 16]), Mark([2; 16]));
        let sealed = digester.seal(mark, b"no until noon");
        assert_eq!(replica(1).unseal(mark, &sealed), Some(&b"no until noon"[..]));
        assert_eq!(digester.unseal(other, &sealed), None);
        assert_eq!(replica(2).unseal(mark, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(digester.unseal(mark, &changed), None, "byte {at}");
            assert_eq!(digester.unseal(mark, &sealed[..at]), None, "cut at {at}");
        }
    }

    /// Scenario: secret files with and without 32 bytes in base64.
    /// Guarantees: a good one is taken; the error names the key to mend and quotes nothing.
    #[test]
    fn secrets_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
        let read = Digester::sharing(&path).unwrap();
        assert_eq!(read.key(&[b"job"]), replica(1).key(&[b"job"]));
        std::fs::write(&path, "hunter2hunter2").unwrap();
        let error = Digester::sharing(&path).unwrap_err().to_string();
        assert!(error.contains("limits.store.secret_file") && !error.contains("hunter2"), "{error}");
    }
}
