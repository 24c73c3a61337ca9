//! Which credentials are taken at a listener and known to no authority any more: what a listener takes changes
//! with a restart only, the authorities with each reload. Pure; it refuses nothing.

use crate::config::{Authentication, Config};

/// Listeners as the process was started with them, each with a kind of credentials that nobody knows under the
/// configuration `now`.
pub(super) fn unjudged<'a>(
    started_with: &'a Config,
    now: &'a Config,
) -> impl Iterator<Item = (&'a str, &'static str)> {
    let pairs = !now.gitlab.url.is_empty() || !now.fixed.file.as_os_str().is_empty();
    let is_known = move |listener: &str, kind: Authentication| match kind {
        Authentication::Gitlab => pairs,
        Authentication::Oidc => !now.oidc.providers.is_empty(),
        Authentication::Mtls | Authentication::None => {
            now.listeners.iter().any(|now| now.name == listener && now.authentication.contains(&kind))
        }
    };
    started_with.listeners.iter().flat_map(move |listener| {
        let unknown = move |kind: &&Authentication| !is_known(&listener.name, **kind);
        listener.authentication.iter().filter(unknown).map(|kind| (listener.name.as_str(), name(*kind)))
    })
}

fn name(kind: Authentication) -> &'static str {
    match kind {
        Authentication::Gitlab => "gitlab",
        Authentication::Oidc => "oidc",
        Authentication::Mtls => "mtls",
        Authentication::None => "none",
    }
}
