//! Step 6 of the line: the body in, deframed, inflated and, from JSON, turned into protobuf, under
//! permits and charged as it grows. It never looks at what the message says.

use bytes::Bytes;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    limit::Cost,
    otlp::{
        compression::{self, Encoding, InflateError},
        json,
    },
};

use super::{
    body::{self, Permit},
    gateway::{Admitted, Gateway, Notes},
    grpc,
    rejection::Rejection,
    route::{Protocol, Route},
};

/// Compressed bodies from this size on are inflated aside.
const LONG_INFLATION: usize = 64 << 10;

/// JSON from this size on is decoded aside: about a millisecond.
const LONG_JSON: usize = 128 << 10;

/// Uncompressed protobuf up to this size is charged together with its spans: to read it through takes some 10 us, less
/// than to answer that it was too much.
const SHORT_INSPECTION: usize = 64 << 10;

/// Memory that the JSON decoder takes at the most, in times of its input: measured 6.6 in the worst
/// document found, the output, which is counted by itself, included.
const JSON_SCRATCH: usize = 6;

fn bytes_of(len: usize) -> Cost {
    Cost { bytes: u64::try_from(len).unwrap_or(u64::MAX), ..Cost::default() }
}

/// The message as it came, and how it is compressed.
fn unwrap(route: Route, body: Bytes) -> Result<(Bytes, Encoding), Rejection> {
    match route.protocol {
        Protocol::Grpc => {
            let (compressed, message) =
                grpc::deframe(&body).map_err(|error| Rejection::Malformed(error.to_string()))?;
            match (compressed, route.encoding) {
                (false, _) => Ok((message, Encoding::Identity)),
                (true, None) => Err(Rejection::UnnamedCompression),
                (true, Some(encoding)) => Ok((message, encoding)),
            }
        }
        Protocol::HttpProtobuf | Protocol::HttpJson => {
            Ok((body, route.encoding.unwrap_or(Encoding::Identity)))
        }
    }
}

/// A body, read and inflated, ready for inspection.
pub(super) struct Payload {
    /// Protobuf.
    pub(super) message: Bytes,
    /// The message as it came over the wire, where it can be passed on so; `None` for JSON.
    pub(super) wire: Option<(Bytes, Encoding)>,
    /// What is still to be charged, whatever becomes of the message.
    pub(super) due: Cost,
    /// When it was ready.
    pub(super) at: Instant,
    /// Holds the body's share of memory until the collector has answered.
    _permit: Permit,
}

impl Payload {
    /// Step 6: permits, caps, inflation. Bytes are charged as soon as they are known, or are [due](Self::due) if they are
    /// few: what a job makes us inflate and parse costs it the same, whether or not anything comes of it.
    pub(super) async fn read(
        gateway: &Gateway,
        admitted: &mut Admitted<'_>,
        body: &mut Incoming,
        began: Instant,
        notes: &mut Notes,
    ) -> Result<Self, Rejection> {
        let Admitted { route, deadline, charge, .. } = admitted;
        let deadline = *deadline;
        let body_end = began.checked_add(gateway.settings.body_timeout).unwrap_or(deadline);
        let mut received = 0;
        let collected = body::collect(
            body,
            gateway.settings.max_request_size,
            deadline.min(body_end),
            &gateway.in_flight,
            &mut received,
        )
        .await;
        let at = Instant::now();
        let collected = match collected {
            Ok(collected) => collected,
            Err(error) => {
                // What came in vain was held all the same; the limits may say no, the answer is another one.
                drop(charge.take(bytes_of(received), at).await);
                return Err(Rejection::Body(error));
            }
        };
        notes.body_bytes = u64::try_from(collected.bytes.len()).ok();
        let mut permit = collected.permit;
        let wire_len = collected.bytes.len();
        let unwrapped = unwrap(*route, collected.bytes);
        let is_short = wire_len <= SHORT_INSPECTION
            && route.protocol != Protocol::HttpJson
            && matches!(unwrapped, Ok((_, Encoding::Identity)));
        let due = if is_short { bytes_of(wire_len) } else { Cost::default() };
        if !is_short {
            charge.take(bytes_of(wire_len), at).await?;
        }
        let (wire, encoding) = unwrapped?;
        let is_compressed = encoding != Encoding::Identity;
        let is_long = is_compressed && wire.len() >= LONG_INFLATION;
        let inflate = || compression::inflate(encoding, &wire, gateway.settings.inflate);
        let inflated = gateway.aside.run(is_long, deadline, inflate).await.map_err(Rejection::Body)?;
        let inflated = inflated.map_err(|error| match error {
            InflateError::TooLarge | InflateError::Ratio => Rejection::InflatedTooLarge,
            InflateError::Corrupt | InflateError::TooManyParts | InflateError::Empty => {
                Rejection::Malformed(error.to_string())
            }
        })?;
        if is_compressed {
            permit.grow(inflated.len()).map_err(Rejection::Body)?;
            let all = bytes_of(inflated.len().max(wire_len));
            charge.exchange_bytes(bytes_of(wire_len), all, Instant::now()).await?;
        }
        if route.protocol == Protocol::HttpJson {
            let mut scratch = gateway.in_flight.permit();
            scratch.grow(inflated.len().saturating_mul(JSON_SCRATCH)).map_err(Rejection::Body)?;
            let decode = || json::to_protobuf(route.signal, &inflated);
            let decoded = gateway.aside.run(inflated.len() >= LONG_JSON, deadline, decode).await;
            let message =
                decoded.map_err(Rejection::Body)?.map_err(|error| Rejection::Malformed(error.to_string()))?;
            permit.grow(message.len()).map_err(Rejection::Body)?;
            return Ok(Self {
                message: message.into(),
                wire: None,
                due,
                at: Instant::now(),
                _permit: permit,
            });
        }
        let at = if is_compressed { Instant::now() } else { at };
        Ok(Self { message: inflated, wire: Some((wire, encoding)), due, at, _permit: permit })
    }
}
