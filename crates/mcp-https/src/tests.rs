//! Tests with hostile servers.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{Client, Error, Method, StatusCode};

mod connections;
mod hosts;

/// A loopback server that runs a script for each connection, with the number of the connection.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Peer {
    async fn start<F>(script: impl Fn(TcpStream, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, number));
            }
        });
        Self { address, connections, task }
    }

    /// A server that sends `bytes` after the first request, and closes the connection.
    async fn sending(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut stream, _| {
            let bytes = bytes.clone();
            async move {
                read_head(&mut stream).await?;
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/path?token=secret", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn client() -> Client {
    Client::trusted().timeout(Duration::from_secs(5)).max_response_bytes(1000)
}

async fn body(client: &Client, url: &str) -> Result<Vec<u8>, Error> {
    Ok(client.get(url).send().await?.bytes().await?.to_vec())
}

#[tokio::test]
async fn a_body_is_limited_in_size() {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    for (response, expected) in [
        (format!("{head}Content-Length: 1000\r\n\r\n{}", "x".repeat(1000)), Some(1000)),
        (format!("{head}Content-Length: 1001\r\n\r\n{}", "x".repeat(1001)), None),
        // A `Content-Length` above the limit is rejected before the body is read.
        (format!("{head}Content-Length: 18446744073709551615\r\n\r\nx"), None),
        (format!("{head}\r\n{}", "x".repeat(1000)), Some(1000)),
        (format!("{head}\r\n{}", "x".repeat(1_000_000)), None),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000)), Some(1000)),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "1\r\nx\r\n".repeat(1001)), None),
    ] {
        let peer = Peer::sending(response.clone()).await;

        match (body(&client(), &peer.url()).await, expected) {
            (Ok(body), Some(expected)) => assert_eq!(body.len(), expected),
            (Err(Error::TooLarge { place, limit: 1000 }), None) => assert!(!place.contains("secret"), "{place}"),
            (Err(Error::Incomplete { .. }), None) if response.contains("18446744073709551615") => {}
            (other, _) => panic!("{other:?}: {}", &response[..80]),
        }
    }
}

#[tokio::test]
async fn an_incomplete_response_is_an_error() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X-Header: xxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(100_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: x\r\n".repeat(101));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let informed = format!("{}HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000));
    for response in [
        "",
        "HTTP",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxx",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        &endless,
        &many,
        &long,
        &informed,
    ] {
        let peer = Peer::sending(response).await;

        let result = body(&client(), &peer.url()).await;
        let Err(error) = result else { panic!("{result:?}: {response:.80}") };

        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}: {}", &response[..response.len().min(80)]);
        assert!(error.is_transient());
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_slow_server_times_out() {
    // The server sends nothing, a slow head, or a slow body.
    for head in ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\n\r\n"] {
        let peer = Peer::start(move |mut stream, _| async move {
            read_head(&mut stream).await?;
            stream.write_all(head.as_bytes()).await?;
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !head.is_empty() {
                    stream.write_all(b"x").await?;
                }
            }
        })
        .await;
        let limited = client().timeout(Duration::from_millis(300));
        let started = Instant::now();

        assert!(matches!(body(&limited, &peer.url()).await, Err(Error::Timeout { .. })), "{head}");

        let deadline = Some(Instant::now() + Duration::from_millis(200));
        let response = client().get(&peer.url()).answer_by(deadline).send().await;
        let error = match response {
            Ok(response) => response.bytes().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_past_deadline_is_a_timeout() {
    let peer = Peer::sending("HTTP/1.1 204 No Content\r\n\r\n").await;

    let response = client().get(&peer.url()).answer_by(Some(Instant::now() - Duration::from_secs(1))).send().await;

    assert!(matches!(response, Err(Error::Timeout { .. })), "{response:?}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Peer::sending("HTTP/1.1 200 OK\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let response = format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.url());
        let peer = Peer::sending(response).await;

        let response = client().get(&peer.url()).send().await.unwrap();

        assert_eq!(response.status().as_u16(), status);
        // A client that follows the redirect validates the URL.
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let followed = Client::foreign().get(&location).send().await;
        assert!(matches!(followed, Err(Error::Url { .. })), "{followed:?}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_compressed_body_is_not_decompressed() {
    for encoding in ["gzip", "br", "zstd", "deflate, gzip", "identity, gzip"] {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 4\r\n\r\nabcd");
        let peer = Peer::sending(response).await;

        assert!(matches!(body(&client(), &peer.url()).await, Err(Error::Compressed { .. })), "{encoding}");

        // With `Accept-Encoding`, the body is returned unchanged.
        let asked = client().get(&peer.url()).header("accept-encoding", encoding).send().await.unwrap();
        assert_eq!(asked.bytes().await.unwrap(), "abcd");
    }
}

#[tokio::test]
async fn a_connection_is_reused_and_an_idempotent_request_retried_on_a_new_one() {
    // Each connection serves two requests, and is closed without a response to the third.
    let peer = Peer::start(|mut stream, _| async move {
        for _ in 0..2 {
            read_head(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
        }
        read_head(&mut stream).await.map(drop)
    })
    .await;
    let client = client();

    for expected in [1, 1, 2, 2, 3] {
        assert_eq!(body(&client, &peer.url()).await.unwrap(), b"ok");
        assert_eq!(peer.connections(), expected);
        // The connection is idle once its task has run.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    body(&client, &peer.url()).await.unwrap();

    tokio::time::sleep(Duration::from_millis(20)).await;
    let post = client.post(&peer.url()).send().await;
    assert!(matches!(post, Err(Error::Incomplete { .. })), "{post:?}");
}

#[tokio::test]
async fn an_idempotent_request_is_retried_once() {
    let peer = Peer::sending("").await;

    assert!(client().get(&peer.url()).send().await.is_err());
    assert_eq!(peer.connections(), 2);
    assert!(client().post(&peer.url()).send().await.is_err());
    assert_eq!(peer.connections(), 3);
    assert!(client().post(&peer.url()).idempotent().send().await.is_err());
    assert_eq!(peer.connections(), 5);
}

#[tokio::test]
async fn debug_and_display_contain_no_secret() {
    let request = client().get("http://127.0.0.1:1/a?token=secret").bearer("secret");

    assert!(!format!("{request:?}").contains("secret"), "{request:?}");
    let error = request.send().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    let malformed = client().get("http://127.0.0.1:1/").bearer("a\nb").send().await;
    assert!(matches!(malformed, Err(Error::Header)), "{malformed:?}");
}

#[tokio::test]
async fn a_response_has_status_headers_and_body() {
    let peer = Peer::sending("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-A: b\r\n\r\nnone").await;

    let response = client().get(&peer.url()).send().await.unwrap();

    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!((response.headers()["x-a"].as_bytes(), response.content_length()), (&b"b"[..], Some(4)));
    assert_eq!(response.bytes().await.unwrap(), "none");
}

#[tokio::test]
async fn a_response_without_a_body_may_have_any_length_and_encoding() {
    for (method, status) in [
        (Method::HEAD, "200 OK"),
        (Method::HEAD, "404 Not Found"),
        (Method::GET, "304 Not Modified"),
        (Method::HEAD, "304 Not Modified"),
        (Method::GET, "204 No Content"),
        (Method::POST, "204 No Content"),
    ] {
        for headers in ["Content-Length: 4", "Content-Length: 1001", "Content-Length: 1001\r\nContent-Encoding: gzip"] {
            // The connection is reused: no body is expected.
            let answer = format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n");
            let peer = Peer::start(move |mut stream, _| {
                let answer = answer.clone();
                async move {
                    loop {
                        read_head(&mut stream).await?;
                        stream.write_all(answer.as_bytes()).await?;
                    }
                }
            })
            .await;
            let client = client();

            for _ in 0..2 {
                let response = client.request(method.clone(), &peer.url()).send().await.unwrap();

                let stated = headers.lines().next().unwrap().trim_start_matches("Content-Length: ").parse().ok();
                assert_eq!(response.content_length(), stated, "{method} {status}");
                assert_eq!(response.bytes().await.unwrap(), "", "{method} {status}");
            }
            assert_eq!(peer.connections(), 1, "{method} {status}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_allowed_is_not_read() {
    let body = "x".repeat(2000);
    for (method, status) in
        [(Method::HEAD, "200 OK"), (Method::GET, "304 Not Modified"), (Method::GET, "204 No Content")]
    {
        for headers in
            [format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked".to_owned(), "X: x".to_owned()]
        {
            let peer = Peer::sending(format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n{body}")).await;

            let response = client().request(method.clone(), &peer.url()).send().await.unwrap();

            assert_eq!(response.bytes().await.unwrap(), "", "{method} {status} {headers}");
        }
    }
}
