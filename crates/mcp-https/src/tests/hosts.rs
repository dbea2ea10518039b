//! Tests of configured hosts: what they reach, and that the address checks hold for everything else.

use std::sync::atomic::Ordering;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Peer,
    connections::{answers, loopback_is_public, tls_server},
};
use crate::{Client, Error, HostsError, StatusCode, foreign_with_hosts};

const HOSTS: &str = "MCP_FOREIGN_HOSTS";
const AUTHORITY_FILE: &str = "MCP_FOREIGN_AUTHORITY_FILE";
/// The authority of `right.example`.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/data/root.pem");

fn configured(hosts: &str, authority: Option<&str>) -> Result<Client, HostsError> {
    foreign_with_hosts(|name| match name {
        HOSTS => Some(hosts).filter(|hosts| !hosts.is_empty()),
        AUTHORITY_FILE => authority,
        _ => None,
    })
}

/// Asserts that a server has no connection but that of this function. Connections are accepted in their order.
async fn assert_unreached(server: &Peer) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();

    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_configured_name_reaches_its_address_without_dns() {
    let (port, requests) = tls_server();
    let (lookup, asked) = answers(&[&["8.8.8.8"]]);
    let client = configured(&format!("Right.Example = 127.0.0.1:{port}, b.example=[::1]:1"), Some(ROOT))
        .unwrap()
        .dependencies(|dependencies| dependencies.lookup = lookup);

    for url in ["https://right.example", "https://right.example/a?b=c", "https://RIGHT.EXAMPLE/"] {
        assert_eq!(client.get(url).send().await.unwrap().status(), StatusCode::OK, "{url}");
    }
    assert_eq!((requests.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (3, 0));
}

#[tokio::test]
async fn no_url_reaches_another_address_or_port_through_a_configured_name() {
    let target = Peer::sending("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = target.address.port();
    // Every name has the address of the target, as an attacker's DNS can answer.
    let (lookup, _) = answers(&[&["127.0.0.1"]]);
    let client = configured(&format!("right.example=127.0.0.1:{port}"), Some(ROOT))
        .unwrap()
        .dependencies(|dependencies| dependencies.lookup = lookup);

    for url in [
        // Other names.
        format!("https://evil.example:{port}/"),
        format!("https://sub.right.example:{port}/"),
        format!("https://right.example.evil.example:{port}/"),
        format!("https://xright.example:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://right-example:{port}/"),
        // Ports of the configured name.
        format!("https://right.example:{port}/"),
        "https://right.example:443/".to_owned(),
        "https://right.example:22/".to_owned(),
        "https://RIGHT.example:6379/".to_owned(),
        // Its address.
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f.1:{port}/"),
        // Other spellings, and hosts that only look configured.
        "http://right.example/".to_owned(),
        "https://right.example./".to_owned(),
        "https://right%2eexample/".to_owned(),
        "https://right\u{3002}example/".to_owned(),
        "https://r\u{0456}ght.example/".to_owned(),
        format!("https://right.example@127.0.0.1:{port}/"),
        format!("https://right.example@evil.example:{port}/"),
        format!("https://evil.example:{port}\\@right.example/"),
        "https://user@right.example/".to_owned(),
        "https://right.example#@evil.example/".to_owned(),
    ] {
        let error = client.get(&url).send().await.unwrap_err();

        assert!(matches!(error, Error::Address { .. } | Error::Url { .. }), "{url}: {error:?}");
    }
    assert_unreached(&target).await;
}

#[tokio::test]
async fn headers_of_a_request_do_not_choose_the_address() {
    let target = Peer::sending("HTTP/1.1 200 OK\r\n\r\n").await;
    let (lookup, _) = answers(&[&["127.0.0.1"]]);
    let hosts = format!("right.example={}", target.address);
    let client = configured(&hosts, Some(ROOT)).unwrap().dependencies(|dependencies| dependencies.lookup = lookup);

    for (name, value) in
        [("host", "right.example"), ("x-forwarded-host", "right.example"), ("mcp-foreign-hosts", &hosts)]
    {
        let url = format!("https://evil.example:{}/", target.address.port());
        let error = client.get(&url).header(name, value).send().await.unwrap_err();

        assert!(matches!(error, Error::Address { .. }), "{name}: {error:?}");
    }
    assert_unreached(&target).await;
}

#[tokio::test]
async fn the_private_authority_is_trusted_for_configured_names_alone() {
    let (port, requests) = tls_server();
    let cases = [
        // Its certificate is for another name.
        (format!("wrong.example=127.0.0.1:{port}"), Some(ROOT), "https://wrong.example/".to_owned(), "NotValidForName"),
        // No authority is configured.
        (format!("right.example=127.0.0.1:{port}"), None, "https://right.example/".to_owned(), "UnknownIssuer"),
        // The name is not configured: it is resolved, and the authorities of the system are trusted.
        ("other.example=127.0.0.1:1".to_owned(), Some(ROOT), format!("https://right.example:{port}/"), "UnknownIssuer"),
    ];
    for (hosts, authority, url, expected) in cases {
        let (lookup, _) = answers(&[&["127.0.0.1"]]);
        let client = configured(&hosts, authority).unwrap().dependencies(|dependencies| {
            dependencies.lookup = lookup;
            dependencies.kind_of = loopback_is_public;
        });

        let error = client.get(&url).send().await.unwrap_err();

        let text = format!("{error:?}");
        assert!(matches!(error, Error::Unreachable { .. }) && text.contains(expected), "{hosts}: {text}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_variables_no_name_is_configured() {
    let (lookup, asked) = answers(&[&["127.0.0.1"]]);
    let client = configured("", None).unwrap().dependencies(|dependencies| dependencies.lookup = lookup);

    let error = client.get("https://right.example/").send().await.unwrap_err();

    assert!(matches!(error, Error::Address { .. }), "{error:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn invalid_variables_are_rejected() {
    for hosts in [
        ",",
        "right.example",
        "right.example=",
        "=127.0.0.1:1",
        "right.example=127.0.0.1",
        "right.example=127.0.0.1:0",
        "right.example=127.0.0.1:65536",
        "right.example=localhost:1",
        "right.example=::1:1",
        "right.example=127.0.0.1:1,",
        "right.example=127.0.0.1:1,RIGHT.example=127.0.0.1:2",
        "*=127.0.0.1:1",
        "*.example=127.0.0.1:1",
        "127.0.0.1=127.0.0.1:1",
        "8.8.8.8=127.0.0.1:1",
        "[::1]=127.0.0.1:1",
        "right.example:443=127.0.0.1:1",
        "right.example/path=127.0.0.1:1",
        "right.example?=127.0.0.1:1",
        "user@right.example=127.0.0.1:1",
        "right.example.=127.0.0.1:1",
        "https://right.example=127.0.0.1:1",
    ] {
        assert!(matches!(configured(hosts, None), Err(HostsError::Entry { .. })), "{hosts}");
    }
    let without_hosts = configured("", Some(ROOT));
    assert!(matches!(without_hosts, Err(HostsError::AuthorityWithoutHosts)), "{without_hosts:?}");
    for path in ["", "/nonexistent.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
        let authority = configured("right.example=127.0.0.1:1", Some(path));
        assert!(matches!(authority, Err(HostsError::Authority { .. })), "{path}: {authority:?}");
    }
}
