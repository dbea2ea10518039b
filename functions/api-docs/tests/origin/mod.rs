//! A server of one document, on loopback.

use std::sync::{Arc, Mutex};

use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// This document, or 304 to whoever has it.
    Document { text: String, etag: &'static str },
    /// This status.
    Status(u16),
    /// Nothing: it hangs up.
    Nothing,
}

impl Says {
    pub(crate) fn document(text: String, etag: &'static str) -> Self {
        Self::Document { text, etag }
    }
}

pub(crate) struct Origin {
    port: u16,
    known: Arc<Mutex<Known>>,
    server: JoinHandle<()>,
}

struct Known {
    says: Says,
    asked: Vec<Option<String>>,
}

impl Origin {
    pub(crate) async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known = Arc::new(Mutex::new(Known { says, asked: Vec::new() }));
        let server = tokio::spawn(serve(listener, Arc::clone(&known)));
        Self { port, known, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/openapi", self.port)
    }

    pub(crate) fn says(&self, says: Says) {
        self.known.lock().unwrap().says = says;
    }

    /// The `If-None-Match` of each request.
    pub(crate) fn asked(&self) -> Vec<Option<String>> {
        self.known.lock().unwrap().asked.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, known: Arc<Mutex<Known>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let known = Arc::clone(&known);
        let answer = service_fn(move |request: Request<Incoming>| {
            let known = Arc::clone(&known);
            async move { answer(&request, &known).ok_or("hangs up") }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

fn answer(request: &Request<Incoming>, known: &Mutex<Known>) -> Option<Response<Full<bytes::Bytes>>> {
    let mut known = known.lock().unwrap();
    let etag = request.headers().get(header::IF_NONE_MATCH).map(|etag| etag.to_str().unwrap().to_owned());
    known.asked.push(etag.clone());
    let status = |status: u16| Response::builder().status(status);
    let built = match &known.says {
        Says::Document { etag: own, .. } if etag.as_deref() == Some(*own) => status(304).body(Full::default()),
        Says::Document { text, etag } => status(200).header(header::ETAG, *etag).body(text.clone().into()),
        Says::Status(code) => status(*code).header(header::LOCATION, "/elsewhere").body(Full::default()),
        Says::Nothing => return None,
    };
    built.ok()
}
