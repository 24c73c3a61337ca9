//! Whether a certificate of our own is in its time, read by the library that verifies those of others, so that
//! we see what they will see. It never refuses one: a gateway that does not start serves nobody at all.

use std::path::Path;

use rustls_pki_types::UnixTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage};

use super::{TlsError, certificates};

/// What is wrong with the time of the first certificate in a file, as a sentence; `None` if nothing is.
///
/// # Errors
/// [`TlsError`] for a file without a certificate.
pub fn out_of_time(path: &Path) -> Result<Option<String>, TlsError> {
    let chain = certificates(path)?;
    let certificate = chain.first().and_then(|first| EndEntityCert::try_from(first).ok());
    // Nobody is trusted here, so that it always fails: on its time, which is looked at first, or on something else.
    let verdict = certificate.as_ref().map(|own| {
        own.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[],
            &[],
            UnixTime::now(),
            KeyUsage::server_auth(),
            None,
            None,
        )
    });
    let (problem, since) = match verdict {
        Some(Err(Error::CertExpired { not_after, .. })) => ("ended", not_after),
        Some(Err(Error::CertNotValidYet { not_before, .. })) => ("is not good before", not_before),
        _ => return Ok(None),
    };
    let moment = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(since.as_secs()));
    let moment = moment.map_or_else(|| "a time far away".to_owned(), httpdate::fmt_http_date);
    Ok(Some(format!("{}: the certificate {problem} {moment}", path.display())))
}
