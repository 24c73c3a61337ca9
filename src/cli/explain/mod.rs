//! `spangate explain`: asks the authority once about one token pair and says what the gateway would do and
//! why. It decides the exit code; verdict, status and attributes are those of the gateway's own code. It never
//! prints a token.

mod explanation;
mod kept;
mod limits;
mod text;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{
    app::{self, Asker},
    config::Config,
    telemetry,
    validate::{
        Question, Verdict,
        credentials::{Accepts, CredentialError, Credentials},
    },
};

use super::{
    args::{EXIT_USAGE, ExplainArgs},
    tokens,
};

use self::explanation::{Asked, Explanation, Outcome, Subject, Tokens};

const EXIT_ALLOWED: u8 = 0;
const EXIT_DENIED: u8 = 1;
const EXIT_UNDETERMINED: u8 = 2;

/// Explains. The result is the exit code: 0 for a pair that is let in, 1 for one that is refused, 2 if that
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
    let (asker, pair) = match prepare(args, &config) {
        Ok(prepared) => prepared,
        Err(problems) => {
            let _ignored = writeln!(errors, "{problems}");
            return EXIT_USAGE;
        }
    };
    let explanation = explain(args.config.name(), &config, &asker, &pair).await;
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

/// Runner token and job token, wiped when dropped.
struct Pair {
    runner: Zeroizing<Vec<u8>>,
    job: Zeroizing<Vec<u8>>,
}

/// The error is one problem a line.
fn prepare(args: &ExplainArgs, config: &Config) -> Result<(Asker, Pair), String> {
    let asker = app::asker(config).map_err(|error| {
        let name = args.config.name();
        error.0.iter().map(|problem| format!("{name}: {problem}")).collect::<Vec<_>>().join("\n")
    })?;
    let token = |path| tokens::read(path).map_err(|error| format!("{error:#}"));
    let pair = Pair { runner: token(&args.runner_token_file)?, job: token(&args.job_token_file)? };
    Ok((asker, pair))
}

async fn explain(configuration: String, config: &Config, asker: &Asker, pair: &Pair) -> Explanation {
    let mut tokens = Tokens::of(&pair.runner, &pair.job);
    // What no header can carry no sender can have sent.
    let credentials =
        tokens::headers(&asker.names, &pair.runner, &pair.job).ok_or(CredentialError::BadShape).and_then(
            |headers| Credentials::from_headers(&headers, &asker.names, Accepts::PAIR, &asker.digester),
        );
    let subject = Subject { config, asker, job_token: &pair.job };
    let credentials = match credentials {
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
    let answer: Result<Verdict, _> = asker.validator.validate(&question).await;
    let inquiry = Asked::of(config, question.correlation_id.as_ref(), started.elapsed());
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    subject.judged(configuration, tokens, inquiry, answer, now)
}
