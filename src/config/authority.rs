//! Keys of who knows the tokens and how long that word is believed: GitLab, a file of fixed tokens,
//! the verdict cache. It decides defaults and spelling only; secrets stand in files of their own.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{settings::settings, units::ByteSize};

settings! {
    /// The GitLab that knows the tokens, and how it is asked.
    pub struct Gitlab {
        /// Base URL, with its relative URL root if it has one. Set either this or `fixed.file`.
        url: String = String::new();
        /// Path of the endpoint below `url`.
        auth_path: String = "/api/v4/internal/ci/telemetry/auth".into();
        /// Header that carries the runner token, from the runner and to GitLab.
        runner_token_header: String = "Runner-Token".into();
        /// Header that carries the job token, from the runner and to GitLab.
        job_token_header: String = "Job-Token".into();
        /// File with 32 bytes in base64 that sign the gateway's own calls; empty: unsigned.
        secret_file: PathBuf = PathBuf::new();
        /// Header that carries the signed JWT.
        secret_header: String = "Gitlab-Ci-Telemetry-Api-Request".into();
        /// `iss` of the signed JWT.
        secret_issuer: String = "gitlab-ci-telemetry-gateway".into();
        /// `aud` of the signed JWT.
        secret_audience: String = "gitlab".into();
        /// PEM file with the CA certificates that GitLab's certificate is checked against; empty: the system's.
        ca_file: PathBuf = PathBuf::new();
        /// The whole time for one question, its retry included; shorter than `intake.deadline`.
        timeout: Duration = Duration::from_secs(2), as "super::units::duration";
        /// Most questions in flight at once.
        max_concurrency: usize = 64;
        /// Most questions that wait for a free place.
        max_queue: usize = 1024;
        /// How long it takes at the start, and after GitLab failed, until so many are allowed; at first a sixteenth is.
        ramp: Duration = Duration::from_secs(5), as "super::units::duration";
        /// Whether fewer are allowed while GitLab is slow or fails (additive increase, multiplicative decrease).
        adaptive_concurrency: bool = false;
        /// Most second tries after 502, 503 or a failed connection, as a part of all questions; 0: none.
        retry_ratio: f64 = 0.1;
        /// When GitLab is not asked any more because it fails.
        breaker: Breaker = Breaker::default(), holds Breaker;
    }

    /// When GitLab is not asked any more because it fails: no answer, no connection, 5xx, no sense.
    pub struct Breaker {
        /// Least number of such questions in the last 5 to 10 s.
        faults: u32 = 5;
        /// Least part of all questions in that time, 0 to 1.
        ratio: f64 = 0.5;
        /// Longest time until one question finds out whether it answers again; it begins with 1 s.
        max_open: Duration = Duration::from_secs(5), as "super::units::duration";
    }

    /// Tokens listed in a file by digest, in place of `gitlab`: for demos and closed networks.
    pub struct Fixed {
        /// The file; empty: not used.
        file: PathBuf = PathBuf::new();
    }

    /// How long verdicts are believed.
    pub struct Cache {
        /// Most positive verdicts kept; past it, the ones go that were not asked for longest.
        max_entries: u64 = 100_000;
        /// Most memory for positive verdicts, with all that they hold (about 400 bytes each, in transparent mode 800); the same go.
        max_size: ByteSize = ByteSize(128 << 20);
        /// Longest time that a positive verdict is kept, whatever the authority says.
        max_ttl: Duration = Duration::from_mins(5), as "super::units::duration";
        /// How long a denial is kept.
        negative_ttl: Duration = Duration::from_secs(5), as "super::units::duration";
        /// What becomes of a pair that is known while the authority gives no word: resilient (its verdict serves on for the two
        /// times below) or strict (503 from the end of its verdict). A pair that is not known gets 503 under both.
        outage: Outage = Outage::Resilient;
        /// How long past its end a positive verdict still serves while the authority gives no word; at most 60s. The
        /// authority's `stale-if-error` can make it shorter.
        stale_if_error: Duration = Duration::from_mins(1), as "super::units::duration";
        /// Most of the authority's `stale-while-revalidate` that is taken: for that time past its end a positive verdict still
        /// answers at once while it is asked about in the background; at most 60s. Without that directive there is none.
        stale_while_revalidate: Duration = Duration::from_mins(1), as "super::units::duration";
        /// The last part of a verdict's time in which a hit asks again in the background: 0 (never) to 0.9.
        refresh_ahead: f64 = 0.1;
    }
}

/// What a verdict is worth while its authority gives no word. There is no policy that lets in a pair of
/// which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// It serves on for a bounded time past its end.
    #[default]
    Resilient,
    /// It ends when it ends.
    Strict,
}
