//! The two ends that always say yes: a collector that throws everything away and an authority that
//! knows everybody.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use spangate_bench::payload;

/// A collector: reads each body to its end and answers that all was taken.
pub async fn sink() -> anyhow::Result<()> {
    crate::serve(|request| async move {
        read_out(request.into_body()).await;
        answer("application/x-protobuf", Bytes::new())
    })
    .await
}

/// An authority: every token pair belongs to the one job that the load is about.
pub async fn authority() -> anyhow::Result<()> {
    let body = format!(
        r#"{{"trace_id":"{}","job_id":7000000001,"pipeline_id":1234567890,"pipeline_source":"push","project_id":278964,"runner_id":12270831,"runner_type":"instance_type","runner_manager_system_xid":"s_0123456789ab"}}"#,
        payload::TRACE_ID
    );
    crate::serve(move |request| {
        let body = body.clone();
        async move {
            read_out(request.into_body()).await;
            let mut answer = answer("application/json", body.into());
            answer
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
            answer
        }
    })
    .await
}

async fn read_out(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn answer(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
