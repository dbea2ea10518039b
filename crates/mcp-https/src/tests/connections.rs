//! Tests with hostile DNS resolvers and certificates. The servers are on loopback, which the tests classify as public.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{io::AsyncReadExt, sync::mpsc};

use super::Peer;
use crate::{Client, Error, StatusCode, address::Kind, connect::Lookup};

// A test root certificate, and a certificate that it issued for `right.example`. Both are valid until 2126. Created with
// `openssl req -x509` and `openssl x509 -req`, with P-256 keys.
const ROOT: &[u8] = include_bytes!("data/root.der");
const RIGHT_EXAMPLE: &[u8] = include_bytes!("data/right.der");
const RIGHT_EXAMPLE_KEY: &[u8] = include_bytes!("data/right.key.der");

/// A resolver with these answers, one after the other; the last one repeats.
pub(super) fn answers(answers: &[&[&str]]) -> (Lookup, Arc<AtomicUsize>) {
    let answers: Vec<Vec<SocketAddr>> = answers
        .iter()
        .map(|list| list.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = answers[number].clone();
        Box::pin(async move { Ok(answer) })
    });
    (lookup, asked)
}

#[tokio::test]
async fn a_foreign_name_with_a_non_public_address_is_rejected() {
    for addresses in [
        &["127.0.0.1"][..],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["100.64.0.1"],
        &["0.0.0.0"],
        &["224.0.0.1"],
        &["255.255.255.255"],
        &["::1"],
        &["::"],
        &["::ffff:169.254.169.254"],
        &["::ffff:8.8.8.8"],
        &["fd00:ec2::254"],
        &["fe80::1"],
        &["ff02::1"],
        &["64:ff9b::a9fe:a9fe"],
        &["2002:7f00:1::"],
        &["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
        &["2001:4860:4860::8888", "fd00:ec2::254"],
    ] {
        let (lookup, asked) = answers(&[addresses]);
        let client = Client::foreign().dependencies(|dependencies| dependencies.lookup = lookup);

        let error = client.get("https://rebind.example/?token=secret").send().await.unwrap_err();

        assert!(matches!(error, Error::Address { .. }), "{addresses:?}: {error:?}");
        assert!(!error.is_transient() && !error.to_string().contains("secret"), "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

/// A TLS server on loopback, with the certificate of `right.example`. It closes each connection after its response, and counts
/// requests.
pub(super) fn tls_server() -> (u16, Arc<AtomicUsize>) {
    let key = PrivatePkcs8KeyDer::from(RIGHT_EXAMPLE_KEY).into();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(RIGHT_EXAMPLE)], key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, requests) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&requests);
    let respond = move |stream| -> io::Result<()> {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        counter.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        stream.conn.send_close_notify();
        stream.flush()
    };
    // It accepts connections until the tests end.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // An aborted handshake is an error here.
            let _ = respond(stream);
        }
    });
    (port, requests)
}

pub(super) fn loopback_is_public(address: IpAddr) -> Kind {
    if address.is_loopback() { Kind::Public } else { Kind::of(address) }
}

fn nothing_is_public(_: IpAddr) -> Kind {
    Kind::Special
}

fn with_test_root() -> io::Result<&'static ClientConfig> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    Ok(CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ROOT)).unwrap();
        ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }))
}

#[tokio::test]
async fn a_connection_is_opened_to_the_checked_address() {
    let (port, requests) = tls_server();
    let (lookup, asked) = answers(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let client = Client::foreign().dependencies(|dependencies| {
        dependencies.lookup = lookup;
        dependencies.kind_of = loopback_is_public;
        dependencies.tls_config = with_test_root;
    });
    let url = format!("https://right.example:{port}/");

    // A second DNS query between the check and the connection would return another address.
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!((asked.load(Ordering::SeqCst), requests.load(Ordering::SeqCst)), (1, 1));

    // The next connection is checked again.
    let rebound = client.get(&url).send().await;
    assert!(matches!(rebound, Err(Error::Address { .. })), "{rebound:?}");
    assert_eq!((asked.load(Ordering::SeqCst), requests.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn an_invalid_certificate_gets_no_request() {
    let (port, requests) = tls_server();
    let foreign = || {
        let (lookup, _) = answers(&[&["127.0.0.1"]]);
        Client::foreign().dependencies(|dependencies| {
            dependencies.lookup = lookup;
            dependencies.kind_of = loopback_is_public;
        })
    };
    let with_root = foreign().dependencies(|dependencies| dependencies.tls_config = with_test_root);

    for (client, host, expected) in [
        (&with_root, "wrong.example", "NotValidForName"),
        (&with_root, "sub.right.example", "NotValidForName"),
        (&foreign(), "right.example", "UnknownIssuer"),
    ] {
        let error = client.get(&format!("https://{host}:{port}/?token=secret")).send().await.unwrap_err();

        let text = format!("{error:?}");
        assert!(matches!(error, Error::Unreachable { .. }) && text.contains(expected), "{host}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    let right = with_root.get(&format!("https://right.example:{port}/")).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::OK);
}

#[tokio::test]
async fn localhost_with_another_address_gets_no_plain_http() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let peer = Peer::start(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            sender.send(bytes).map_err(io::Error::other)
        }
    })
    .await;
    let (lookup, _) = answers(&[&["127.0.0.1"]]);
    let client = Client::trusted().dependencies(|dependencies| {
        dependencies.lookup = lookup;
        dependencies.kind_of = nothing_is_public;
    });

    // The resolved address is checked, not the name.
    let elsewhere = client.get(&format!("http://localhost:{}/", peer.address.port())).bearer("secret").send().await;

    assert!(matches!(elsewhere, Err(Error::Address { .. })), "{elsewhere:?}");
    assert_eq!(received.recv().await.unwrap(), b"");
}
