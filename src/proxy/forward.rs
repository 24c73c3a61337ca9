//! Steps 10 and 11 of the line: to the collector and back. It decides from when on a charge is final, and what the operator
//! hears; never what is in an export.

use bytes::Bytes;
use tower::Service as _;

use crate::{
    config::AttributesMode,
    otlp::{compression::Encoding, status::PartialSuccess},
};

use super::{
    charge::Charge,
    gateway::{Admitted, Arrival, Gateway, Notes},
    headers,
    rejection::Rejection,
    upstream::{self, Outgoing, UpstreamError},
};

/// What leaves for the collector, and what the sender is told of the rest.
pub(super) struct Departure {
    pub(super) pieces: Vec<Bytes>,
    pub(super) encoding: Encoding,
    pub(super) partial: PartialSuccess,
    pub(super) kept: u64,
}

impl Gateway {
    /// Steps 10 and 11: to the collector and back.
    pub(super) async fn forward(
        &self,
        admitted: &mut Admitted<'_>,
        departure: Departure,
        notes: &mut Notes,
    ) -> Result<PartialSuccess, Rejection> {
        let Admitted { arrival, route, deadline, identity, charge } = admitted;
        let Departure { pieces, encoding, mut partial, kept } = departure;
        if kept == 0 {
            charge.keep_intake();
            notes.items.refused = 0;
            return Ok(partial);
        }
        let shown = (self.settings.attributes == AttributesMode::Transparent).then_some(*identity);
        let outgoing = Outgoing {
            signal: route.signal,
            len: pieces.iter().fold(0, |sum, piece| piece.len().saturating_add(sum)),
            pieces,
            encoding,
            headers: headers::outgoing(arrival.correlation_id, shown),
            deadline: *deadline,
        };
        let mut upstream = self.upstream.clone();
        if let Err(error) = upstream::ready(&mut upstream, *deadline).await {
            return Err(self.not_forwarded(arrival, charge, error));
        }
        // From here on the collector may have the spans: a sender that hangs up now gets nothing back, or
        // hanging up would be a way around its limits.
        let deferred = charge.defer();
        match upstream.call(outgoing).await {
            Ok(theirs) => {
                notes.items.refused = u64::try_from(theirs.rejected).unwrap_or(0).min(kept);
                notes.items.forwarded = kept.saturating_sub(notes.items.refused);
                partial.merge(theirs);
                Ok(partial)
            }
            Err(error) => {
                deferred.restore(charge);
                Err(self.not_forwarded(arrival, charge, error))
            }
        }
    }

    fn not_forwarded(
        &self,
        arrival: &Arrival<'_>,
        charge: &mut Charge<'_>,
        error: UpstreamError,
    ) -> Rejection {
        self.tell_operator(arrival, &error);
        let rejection = Rejection::Upstream(error);
        if rejection.keeps_intake() {
            charge.keep_intake();
        }
        rejection
    }

    fn tell_operator(&self, arrival: &Arrival<'_>, error: &UpstreamError) {
        if let Some(suppressed) = self.log_cap.allow(error.label()) {
            tracing::warn!(
                correlation_id = %arrival.correlation_id,
                error_message = %error,
                suppressed,
                "the collector did not take an export"
            );
        }
    }
}
