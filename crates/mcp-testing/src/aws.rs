//! Stand-ins for AWS: test credentials, and a scripted server in place of Secrets Manager or a credentials endpoint.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Variables with temporary credentials, which no account has.
pub const TEST_AWS_CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "aws s3cret"), ("AWS_SESSION_TOKEN", "session")];

/// ARN of a secret in `eu-west-1`.
pub const TEST_SECRET_ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:client-AbCdEf";

/// HTTP server on loopback that responds by a script and records requests. It stops when it is dropped.
///
/// Unlike [`TestIssuer`](crate::TestIssuer) it shows a test the bytes of each request, and can respond differently to each.
///
/// ```
/// use mcp_testing::ScriptedServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = ScriptedServer::start(|number, _| if number == 1 { (503, String::new()) } else { (200, "{}".to_owned()) }).await;
///
/// assert!(server.url("/secret").ends_with("/secret"));
/// assert!(server.requests().is_empty());
/// # }
/// ```
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ScriptedServer {
    /// Starts a server. For each request `script` gets its number, from 1, and its text (head and body), and returns status
    /// and body of the response. With status 0 the server does not respond.
    pub async fn start(script: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { address, requests, task }
    }

    /// Returns the URL of a path, which is empty or begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the text of all requests, oldest first.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    mut stream: TcpStream,
    script: Arc<impl Fn(usize, &str) -> (u16, String)>,
    log: Arc<Mutex<Vec<String>>>,
) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !is_complete(&text) {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => text.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8(text).expect("a request of text");
    let number = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(text.clone());
        log.len()
    };
    let (status, body) = script(number, &text);
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    // The client may have closed the connection.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

/// Whether a request has its head and a body of its `Content-Length`.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}
