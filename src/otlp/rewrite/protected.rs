//! Which keys belong to the gateway alone. It decides by the folded key and never allocates for
//! a sender's key; what a key's value says never matters.

/// Keys that no sender may set: exact keys and prefixes, compared on the folded key: lower case, and each
/// run of bytes that are no ASCII letter or digit read as one `.`.
///
/// That is what stores further down make of a key when it becomes a label or a column: Prometheus and Loki
/// turn `ci.job.id`, `ci job/id` and `ci..job.id` all into `ci_job_id` (its OTLP translator's label
/// names). Letters of other scripts that merely look the same to a human are other keys here, as there.
#[derive(Clone, Debug, Default)]
pub struct ProtectedKeys {
    /// Folded, sorted by length and then by bytes.
    keys: Vec<Box<[u8]>>,
    /// Folded.
    prefixes: Vec<Box<[u8]>>,
    /// One bit for each folded first byte of a key or prefix: most of a sender's keys end here.
    first_bytes: [u64; 4],
    /// One bit for each length of a key, the last bit for all from 63 on: nearly all others end here.
    lengths: u64,
    /// Whether the empty key, or any key by an empty prefix, is protected.
    empty: bool,
}

impl ProtectedKeys {
    /// A set of whole keys and of beginnings of keys. An empty prefix protects every key.
    #[must_use]
    pub fn new<'a>(
        keys: impl IntoIterator<Item = &'a str>,
        prefixes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let folded = |text: &str| folded(text.as_bytes()).collect::<Box<[u8]>>();
        let mut set = Self {
            keys: keys.into_iter().map(folded).collect(),
            prefixes: prefixes.into_iter().map(folded).collect(),
            ..Self::default()
        };
        set.keys.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        set.keys.dedup();
        for entry in set.keys.iter().chain(&set.prefixes) {
            match entry.first() {
                Some(&byte) => mark(&mut set.first_bytes, byte),
                None => set.empty = true,
            }
        }
        set.lengths = set.keys.iter().fold(0, |lengths, key| lengths | length_bit(key));
        if set.prefixes.iter().any(|prefix| prefix.is_empty()) {
            set.first_bytes = [u64::MAX; 4];
        }
        set
    }

    /// Whether a sender's key is protected.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let Some(&first) = key.first() else { return self.empty };
        if !marked(&self.first_bytes, fold(first)) {
            return false;
        }
        let equals = |entry: &[u8]| entry.iter().zip(key).all(|(entry, byte)| *entry == fold(*byte));
        let of_this_length = || {
            let first = self.keys.partition_point(|entry| entry.len() < key.len());
            self.keys.iter().skip(first).take_while(|entry| entry.len() == key.len())
        };
        (self.lengths & length_bit(key) != 0 && of_this_length().any(|entry| equals(entry)))
            || self.prefixes.iter().any(|prefix| prefix.len() <= key.len() && equals(prefix))
            || (has_a_run(key) && self.contains_folded(key))
    }

    /// The same for a key that is longer than what it folds to.
    #[cold]
    fn contains_folded(&self, key: &[u8]) -> bool {
        let begins = |prefix: &[u8]| {
            let mut key = folded(key);
            prefix.iter().all(|byte| key.next() == Some(*byte))
        };
        self.keys.iter().any(|entry| folded(key).eq(entry.iter().copied()))
            || self.prefixes.iter().any(|prefix| begins(prefix))
    }
}

/// Whether two bytes that are no letter or digit stand side by side.
fn has_a_run(key: &[u8]) -> bool {
    let mut before = 0;
    key.iter().any(|byte| {
        let (byte, last) = (fold(*byte), before);
        before = byte;
        byte == b'.' && last == b'.'
    })
}

fn folded(key: &[u8]) -> impl Iterator<Item = u8> {
    let mut before = 0;
    key.iter().map(|byte| fold(*byte)).filter(move |byte| {
        let last = before;
        before = *byte;
        *byte != b'.' || last != b'.'
    })
}

#[inline]
const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'.' }
}

fn length_bit(key: &[u8]) -> u64 {
    1 << key.len().min(63)
}

fn mark(bits: &mut [u64; 4], byte: u8) {
    if let Some(word) = bits.get_mut(usize::from(byte >> 6)) {
        *word |= 1 << (byte & 63);
    }
}

fn marked(bits: &[u64; 4], byte: u8) -> bool {
    bits.get(usize::from(byte >> 6)).is_some_and(|word| word & (1 << (byte & 63)) != 0)
}

#[cfg(test)]
mod tests {
    use super::ProtectedKeys;

    fn keys() -> ProtectedKeys {
        ProtectedKeys::new(["ci.job.id", "service.name", "CI_Runner-Type", "ci.job.id"], ["gitlab.", "x-"])
    }

    /// Scenario: protected keys and prefixes in every spelling that folds to them.
    /// Guarantees: all are protected, whichever spelling was configured.
    #[test]
    fn look_alikes_are_protected() {
        for key in [
            "ci.job.id",
            "CI.JOB.ID",
            "ci_job-Id",
            "service_name",
            "ci.runner.type",
            "ci_runner_type",
            "gitlab.",
            "GITLAB_project.id",
            "gitlab-é",
            "X.anything",
            "ci job/id",
            "ci..job.id",
            "ci.-_job€id",
            "ci\u{0}job\u{0}id",
            "service:name",
            "gitlab  ",
            "x=",
        ] {
            assert!(keys().contains(key.as_bytes()), "{key}");
        }
    }

    /// Scenario: keys that only begin, end or look like a protected one, and bytes that are no text.
    /// Guarantees: none is protected.
    #[test]
    fn other_keys_are_not() {
        for key in [
            "",
            "c",
            "ci",
            "ci.job",
            "ci.job.id.",
            "ci.job.idx",
            "xci.job.id",
            "ci..job.id..",
            ".ci.job.id",
            "ci..job",
            "cijobid",
            "gitlab",
            "сi.job.id",
        ] {
            assert!(!keys().contains(key.as_bytes()), "{key}");
        }
        assert!(!keys().contains(&[0xFF; 300]) && !keys().contains(&[b'a'; 300]));
        assert!(!ProtectedKeys::default().contains(b"ci.job.id"));
    }

    /// Scenario: keys longer than the filter of lengths tells apart.
    /// Guarantees: each is told from the others of its length and beyond.
    #[test]
    fn long_keys_are_told_apart() {
        let set = ProtectedKeys::new([&*"a".repeat(63), &*"a".repeat(64)], []);
        for length in 0..300 {
            assert_eq!(set.contains("A".repeat(length).as_bytes()), length == 63 || length == 64, "{length}");
        }
    }

    /// Scenario: the empty key and the empty prefix in the set.
    /// Guarantees: the first protects the empty key alone, the second every key.
    #[test]
    fn empty_entries_mean_what_they_say() {
        let key = ProtectedKeys::new([""], []);
        assert!(key.contains(b"") && !key.contains(b"a"));
        let prefix = ProtectedKeys::new([], [""]);
        assert!(prefix.contains(b"") && prefix.contains(b"a") && prefix.contains(&[0xFF]));
    }
}
