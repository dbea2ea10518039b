//! Test server of one document, on loopback.

use std::sync::{Arc, Mutex};

use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// Response of the server.
#[derive(Debug, Clone)]
pub(crate) enum OriginResponse {
    /// The document, or 304 for a matching `If-None-Match`.
    Document { text: String, etag: &'static str },
    /// Empty response with this status.
    Status(u16),
    /// Closes the connection without a response.
    Nothing,
}

impl OriginResponse {
    pub(crate) fn document(text: String, etag: &'static str) -> Self {
        Self::Document { text, etag }
    }
}

pub(crate) struct Origin {
    port: u16,
    state: Arc<Mutex<OriginState>>,
    server: JoinHandle<()>,
}

struct OriginState {
    response: OriginResponse,
    etags: Vec<Option<String>>,
}

impl Origin {
    pub(crate) async fn start(response: OriginResponse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(OriginState { response, etags: Vec::new() }));
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { port, state, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/openapi", self.port)
    }

    pub(crate) fn set_response(&self, response: OriginResponse) {
        self.state.lock().unwrap().response = response;
    }

    /// Returns the `If-None-Match` of each request.
    pub(crate) fn etags(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().etags.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<OriginState>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request: Request<Incoming>| {
            let state = Arc::clone(&state);
            async move { respond(&request, &state).ok_or("connection closed") }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn respond(request: &Request<Incoming>, state: &Mutex<OriginState>) -> Option<Response<Full<bytes::Bytes>>> {
    let mut state = state.lock().unwrap();
    let etag = request.headers().get(header::IF_NONE_MATCH).map(|etag| etag.to_str().unwrap().to_owned());
    state.etags.push(etag.clone());
    let status = |status: u16| Response::builder().status(status);
    let built = match &state.response {
        OriginResponse::Document { etag: own, .. } if etag.as_deref() == Some(*own) => {
            status(304).body(Full::default())
        }
        OriginResponse::Document { text, etag } => status(200).header(header::ETAG, *etag).body(text.clone().into()),
        OriginResponse::Status(code) => status(*code).header(header::LOCATION, "/elsewhere").body(Full::default()),
        OriginResponse::Nothing => return None,
    };
    built.ok()
}
