//! `spangate check`: everything that start would refuse, without binding an address. It asks neither
//! GitLab nor a collector: a check must give the same answer on a laptop.

use std::io::{self, Write};

use crate::app;

use super::args::{ConfigArgs, EXIT_USAGE};

/// Reads and checks the configuration, then the files that it names. The result is the exit code: 0, or
/// 64 with every mistake on stderr, one a line. What would serve and not work is a warning there, and still a 0.
#[must_use]
pub fn run(args: &ConfigArgs) -> u8 {
    check(args, &mut io::stdout().lock(), &mut io::stderr().lock())
}

fn check(args: &ConfigArgs, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    // Files are tried only for a configuration that is sound: else they may not be the ones that are meant.
    let (mistakes, warnings) = match args.load() {
        Err(mistakes) => (mistakes.0.iter().map(ToString::to_string).collect(), Vec::new()),
        Ok(config) => {
            let named = |problem| format!("{}: {problem}", args.name());
            let problems: Vec<_> = app::check(&config).err().into_iter().flatten().map(named).collect();
            let named = |warning| format!("{}: warning: {warning}", args.name());
            (problems, app::warnings(&config).into_iter().map(named).collect())
        }
    };
    // A closed pipe does not change the verdict.
    let told = mistakes.iter().chain(&warnings).try_for_each(|line| writeln!(errors, "{line}"));
    if mistakes.is_empty() {
        let _ignored = told.and_then(|()| writeln!(out, "{}: the configuration can be used", args.name()));
    }
    if mistakes.is_empty() { 0 } else { EXIT_USAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(set: &[(&str, &str)], text: &str) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spangate.yaml");
        std::fs::write(&path, text).unwrap();
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let args = ConfigArgs { config: Some(path), set };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = check(&args, &mut out, &mut errors);
        let place = format!("{}/", dir.path().display());
        let plain = |bytes| String::from_utf8(bytes).unwrap().replace(&place, "");
        (code, plain(out), plain(errors))
    }

    /// Scenario: a listener whose certificate ended in 2020, one whose certificate begins in 4000, one in its time.
    /// Guarantees: they can be used, and the first two are told with key, file and date.
    #[test]
    fn certificates_out_of_their_time_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for (from, to, told) in [
            (2010, 2020, Some("the certificate ended Wed, 01 Jan 2020 00:00:00 GMT")),
            (4000, 4010, Some("the certificate is not good before Sat, 01 Jan 4000 00:00:00 GMT")),
            (2010, 4000, None),
        ] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            std::fs::write(path("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(path("key"), key.serialize_pem()).unwrap();
            let text = format!(
                "gitlab: {{ url: https://x.example.com }}\ncollector: {{ endpoints: [http://c:1] }}\n\
                 listeners: [{{ tls: {{ cert_file: {}, key_file: {} }} }}]\n",
                path("cert"),
                path("key")
            );
            let (code, _, errors) = run_with(&[], &text);
            assert_eq!((code, errors.is_empty()), (0, told.is_none()), "{errors}");
            let wanted = told.map(|told| format!("listeners.0.tls.cert_file: {}: {told}", path("cert")));
            assert!(wanted.is_none_or(|wanted| errors.contains(&wanted)), "{errors}");
        }
    }

    /// Scenario: a good configuration, one with two mistakes, a flag that mends and one that breaks.
    /// Guarantees: 0 and one line on stdout, or 64 and each mistake with file, line and key on stderr.
    #[test]
    fn verdicts_and_exit_codes() {
        let good = "gitlab: { url: https://gitlab.example.com }\ncollector: { endpoints: [http://c:1] }\n";
        assert_eq!(
            run_with(&[], good),
            (0, "spangate.yaml: the configuration can be used\n".to_owned(), String::new())
        );
        let (code, out, errors) = run_with(
            &[],
            "log: { level: loud }\nfixed: { file: /f }\ncollector:\n  endpoint: [http://c:1]\n",
        );
        assert_eq!((code, out.as_str()), (64, ""));
        let lines: Vec<_> = errors.lines().collect();
        assert!(lines[0].starts_with("spangate.yaml:1: log.level: \"loud\" is none of"), "{errors}");
        assert!(
            lines[1].starts_with("spangate.yaml:3: collector.endpoints.0: is this gateway's own"),
            "{errors}"
        );
        assert_eq!(lines[2], "spangate.yaml:4: collector.endpoint: unknown key; did you mean \"endpoints\"?");
        let set = [("gitlab.url", "https://x.example.com"), ("collector.endpoints.0", "http://c:1")];
        assert_eq!(run_with(&set, "").0, 0);
        let (code, _, errors) = run_with(&[("gitlab.timeout", "9s")], good);
        assert_eq!(code, 64);
        assert!(
            errors.starts_with("--set: gitlab.timeout: must be shorter than intake.deadline (4s)"),
            "{errors}"
        );
    }
}
