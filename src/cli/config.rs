//! `spangate config`: defaults, reference, effective values on stdout. It changes nothing.

use std::io::{self, Write};

use crate::config::render;

use super::args::{ConfigCommand, EXIT_USAGE};

/// Prints what is asked for. The result is the exit code: 0, or 64 with every mistake on stderr when
/// the configuration to show has some.
#[must_use]
pub fn run(what: &ConfigCommand) -> u8 {
    print(what, &mut io::stdout().lock(), &mut io::stderr().lock())
}

fn print(what: &ConfigCommand, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    let text = match what {
        ConfigCommand::Default => render::default_yaml(),
        ConfigCommand::Reference => render::reference(),
        ConfigCommand::Show(args) => match args.load() {
            Ok(config) => render::effective_yaml(&config),
            Err(mistakes) => {
                let _ignored = writeln!(errors, "{mistakes}");
                return EXIT_USAGE;
            }
        },
    };
    // A reader that has seen enough (`| head`) is no failure.
    let _ignored = out.write_all(text.as_bytes());
    0
}

#[cfg(test)]
mod tests {
    use crate::cli::args::ConfigArgs;

    use super::*;

    /// Scenario: `config show` with a flag, then with a configuration that can't be used; `config default`.
    /// Guarantees: the flag's value is shown; mistakes go to stderr with 64; the defaults are the generated file.
    #[test]
    fn shows_what_holds() {
        let print = |what: &ConfigCommand| {
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let code = print(what, &mut out, &mut errors);
            (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
        };
        let set = [("gitlab.url", "https://gitlab.example.com"), ("collector.endpoints.0", "http://c:1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
        let (code, out, errors) = print(&ConfigCommand::Show(ConfigArgs { config: None, set }));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(out.contains("\n  url: https://gitlab.example.com\n"), "{out}");
        let (code, out, errors) = print(&ConfigCommand::Show(ConfigArgs::default()));
        assert_eq!((code, out.as_str()), (64, ""));
        assert!(errors.starts_with("(no file):1: gitlab.url: set gitlab.url"), "{errors}");
        assert_eq!(print(&ConfigCommand::Default), (0, render::default_yaml(), String::new()));
    }
}
