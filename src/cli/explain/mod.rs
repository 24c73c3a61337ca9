//! `spangate explain`: asks the authority once about one token pair or bearer token and says what the gateway would do and
//! why. It decides the exit code; verdict, status and attributes are those of the gateway's own code. It never
//! prints a token.

mod bearer;
mod explanation;
mod kept;
mod limits;
mod text;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    app::{self, Asker, Questioned},
    config::Config,
    telemetry,
    validate::{
        Allowed, Question, Verdict,
        credentials::{Accepts, CredentialError, Credentials, Kind},
    },
};

use super::{
    args::{EXIT_USAGE, ExplainArgs},
    tokens,
};

use self::explanation::{Asked, Explanation, Outcome, Refused, Subject, Tokens};

const EXIT_ALLOWED: u8 = 0;
const EXIT_DENIED: u8 = 1;
const EXIT_UNDETERMINED: u8 = 2;

/// Explains. The result is the exit code: 0 for a sender that is let in, 1 for one that is refused, 2 if that
/// could not be found out, 64 for a configuration or a file that can't be used.
pub async fn run(args: &ExplainArgs) -> u8 {
    run_to(args, &mut std::io::stdout(), &mut std::io::stderr()).await
}

/// As [`run`], to other places.
pub async fn run_to(args: &ExplainArgs, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(mistakes) => {
            let _ignored = writeln!(errors, "{mistakes}");
            return EXIT_USAGE;
        }
    };
    let (asker, proof) = match prepare(args, &config) {
        Ok(prepared) => prepared,
        Err(problems) => {
            let _ignored = writeln!(errors, "{problems}");
            return EXIT_USAGE;
        }
    };
    let explanation = explain(args.config.name(), &config, &asker, &proof).await;
    // A closed pipe does not change the verdict, which the exit code tells too.
    let _ignored = if args.json {
        let json = serde_json::to_string_pretty(&explanation).unwrap_or_default();
        writeln!(out, "{json}")
    } else {
        text::write(&explanation, out)
    };
    match explanation.verdict {
        Outcome::Allow => EXIT_ALLOWED,
        Outcome::Deny => EXIT_DENIED,
        Outcome::Undetermined => EXIT_UNDETERMINED,
    }
}

/// What a sender would show, wiped when dropped.
enum Proof {
    Pair { runner: Zeroizing<Vec<u8>>, job: Zeroizing<Vec<u8>> },
    Bearer(Zeroizing<Vec<u8>>),
}

impl Proof {
    fn read(args: &ExplainArgs) -> Result<Self, String> {
        let token = |path: &PathBuf| tokens::read(path).map_err(|error| format!("{error:#}"));
        match (&args.bearer_token_file, &args.runner_token_file, &args.job_token_file) {
            (Some(bearer), ..) => Ok(Self::Bearer(token(bearer)?)),
            (None, Some(runner), Some(job)) => Ok(Self::Pair { runner: token(runner)?, job: token(job)? }),
            _ => Err("--runner-token-file and --job-token-file, or --bearer-token-file is needed".to_owned()),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Pair { .. } => Kind::Pair,
            Self::Bearer(_) => Kind::Bearer,
        }
    }

    /// As the gateway would read them; what no header can carry no sender can have sent.
    fn credentials(&self, asker: &Asker) -> Result<Credentials, CredentialError> {
        let (headers, accepts) = match self {
            Self::Pair { runner, job } => (tokens::headers(&asker.names, runner, job), Accepts::PAIR),
            Self::Bearer(token) => (tokens::bearer_header(token), Accepts { pair: false, bearer: true }),
        };
        let headers = headers.ok_or(CredentialError::BadShape)?;
        Credentials::from_headers(&headers, &asker.names, accepts, &asker.digester)
    }
}

/// The error is one problem a line.
fn prepare(args: &ExplainArgs, config: &Config) -> Result<(Asker, Proof), String> {
    let kind = if args.bearer_token_file.is_some() { Kind::Bearer } else { Kind::Pair };
    let asker = app::asker(config, kind).map_err(|error| {
        let name = args.config.name();
        error.0.iter().map(|problem| format!("{name}: {problem}")).collect::<Vec<_>>().join("\n")
    })?;
    Ok((asker, Proof::read(args)?))
}

async fn explain(configuration: String, config: &Config, asker: &Asker, proof: &Proof) -> Explanation {
    let mut tokens = Tokens::of(proof);
    let credentials = match proof.credentials(asker) {
        Ok(credentials) => credentials,
        Err(error) => return Explanation::malformed(configuration, tokens, error),
    };
    tokens.digest = Some(credentials.digest().to_string());
    let started = Instant::now();
    let question = Question {
        credentials: Arc::new(credentials),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        correlation_id: telemetry::correlation_id(None),
        deadline: started.checked_add(config.intake.deadline).unwrap_or(started),
    };
    let (issuer, answer) = match &asker.authority {
        Questioned::Pairs(validator) => (None, validator.validate(&question).await.map(of_pair)),
        Questioned::Bearers(oidc) => {
            let answer = oidc.explain(&question).await;
            (oidc.issuer_of(&question.credentials), answer.map(|word| word.map_err(Refused::Bearer)))
        }
    };
    let took = started.elapsed();
    let inquiry = match proof {
        Proof::Pair { .. } => Some(Asked::of(config, question.correlation_id.as_ref(), took)),
        Proof::Bearer(_) => issuer.map(|issuer| Asked::keys_of(issuer, took)),
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let subject = Subject { config, asker, proof, provider: bearer::provider(config, issuer) };
    subject.judged(configuration, tokens, inquiry, answer, now)
}

fn of_pair(verdict: Verdict) -> Result<Allowed, Refused> {
    match verdict {
        Verdict::Allow(allowed) => Ok(allowed),
        Verdict::Deny(denial) => Err(Refused::Pair(denial)),
    }
}
