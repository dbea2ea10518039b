//! Checks of this machine: the program, proxies, certificates, the clock and the store.

use std::{
    env,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_protocol::uri::is_loopback;
use serde_json::Value;
use url::Url;

use super::report::{Level, Report};
use crate::{
    install, keychain,
    network::{
        self, SettingFault,
        certificates::{self, HAS_SYSTEM_STORE},
        proxies::{self, Proxy},
    },
    store::Store,
};

pub(super) const THIS_PROGRAM: &str = "mcpl on this machine";
/// Allowed clock skew in seconds: issuers and servers allow a minute.
const MAX_OFFSET: i64 = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The version and the path of this program, and whether PATH finds another one.
pub(super) fn program(report: &mut Report) {
    let version = env!("CARGO_PKG_VERSION");
    let Ok(current) = env::current_exe() else {
        return report.ok("program", format!("mcpl {version}"));
    };
    let found = install::lasting(&current, &env::var_os("PATH").unwrap_or_default());
    let first = first_in_path(current.file_name().unwrap_or_default());
    match first.filter(|first| first.canonicalize().ok() != current.canonicalize().ok()) {
        Some(other) => report.note(
            "program",
            format!("mcpl {version} is {}, and PATH finds another one first, {}", current.display(), other.display()),
            "programs that start `mcpl` by its name",
            "remove one of them, or give the path",
        ),
        None => report.ok("program", format!("mcpl {version} is {}", found.display())),
    }
}

fn first_in_path(name: &std::ffi::OsStr) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Examines whether requests to a URL go through a proxy, and whether it responds.
pub(super) async fn proxies(url: &Url, report: &mut Report) {
    for SettingFault { found, fix } in proxies::faults() {
        report.problem("proxy", found, "mcpl and other programs that read the variable", fix);
    }
    let Some(proxy) = Proxy::of(url.as_str()) else {
        let names = proxies::named();
        if !names.is_empty() {
            report.ok("proxy", format!("requests go to the server without {}", names.join(" and ")));
        }
        return;
    };
    let (setting, authority) = (proxy.setting(), proxy.authority());
    let connecting =
        tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect((proxy.host(), proxy.port())));
    let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Err(error) = connected {
        return report.problem(
            "proxy",
            format!("{setting} names the proxy {authority}, which cannot be reached: {error}"),
            THIS_PROGRAM,
            format!("correct {setting}, or add the server's host to NO_PROXY"),
        );
    }
    if url.host_str().is_some_and(is_loopback) {
        return report.note(
            "proxy",
            format!("{setting} applies to this machine too: requests to {} go to {authority}", url.authority()),
            "mcpl with servers on this machine, and sign-ins",
            "set NO_PROXY=localhost,127.0.0.1,::1",
        );
    }
    report.ok("proxy", format!("requests go through {authority} ({setting})"));
}

/// The variables that name certificates. Whether one is a problem.
pub(super) fn certificates(report: &mut Report) {
    let named = certificates::named();
    if HAS_SYSTEM_STORE && !named.is_empty() {
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        return report.note(
            "certificates",
            format!("{} is not read on this system", names.join(" and ")),
            THIS_PROGRAM,
            "add a certificate authority of your own to the system's store",
        );
    }
    for SettingFault { found, fix } in certificates::faults() {
        report.problem("certificates", found, "mcpl and other programs that read the variable", fix);
    }
    if let Some(names) = certificates::in_words().filter(|_| !report.has_problem("certificates")) {
        report.ok("certificates", format!("{} of {names}, in place of the system's", certificates::count()));
    }
}

/// Classifies a connection error: the finding, the affected clients and the fix.
pub(super) fn unreachable(error: &anyhow::Error, url: &Url) -> (String, &'static str, String) {
    // The kinds of certificate errors are in the middle of the chain, where each system words them in its own way.
    let details = format!("{error:#} {}", chain(error));
    let has = |word: &str| details.contains(word);
    let found = network::cause(error);
    let host = url.host_str().unwrap_or_default();
    if has("UnknownIssuer") || has("SelfSigned") || has("not trusted") || has("UntrustedRoot") {
        let fix = if HAS_SYSTEM_STORE {
            "add the certificate authority to the system's store, or send the whole chain from the server".to_owned()
        } else {
            let file = env::var_os("SSL_CERT_FILE").or_else(|| env::var_os("SSL_CERT_DIR"));
            let now = match file {
                Some(file) => format!(" (now {})", file.to_string_lossy()),
                None => String::new(),
            };
            let mut fix = format!(
                "for an authority of your own, such as a company's proxy, set SSL_CERT_FILE{now} to a file with its certificate \
                 and the system's; otherwise let the server send its intermediate certificates"
            );
            if let Some(other) =
                ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"].iter().find(|name| env::var_os(name).is_some())
            {
                _ = write!(fix, "; {other} is for other programs");
            }
            fix
        };
        return (
            format!("the certificate is not trusted here: {found}"),
            "all clients that trust the same authorities",
            fix,
        );
    }
    if has("NotValidForName") {
        let fix = format!("use a name that the certificate has, or get one for {host}");
        return (format!("the certificate is none for {host}: {found}"), "all clients", fix);
    }
    if has("CertExpired") || has("Expired") {
        let fix = "renew it; if it is valid, this machine's clock is wrong".to_owned();
        return (format!("the certificate has expired: {found}"), "all clients", fix);
    }
    if has("NotValidYet") {
        let fix = "this machine's clock is wrong, or the certificate is for later".to_owned();
        return (format!("the certificate is not valid yet: {found}"), "all clients", fix);
    }
    if has("dns error") || has("failed to lookup") {
        return (found, "all clients", format!("is `{host}` written right, and is there a network?"));
    }
    if has("tunnel") || has("proxy") {
        return (found, THIS_PROGRAM, "look at HTTPS_PROXY, ALL_PROXY and NO_PROXY".to_owned());
    }
    if has("InvalidContentType") || has("wrong version number") {
        return (
            found,
            "all clients",
            "nothing speaks TLS at this port: is the scheme or the port another one?".to_owned(),
        );
    }
    if found.starts_with(network::REFUSED) {
        return (found, "all clients", "start the server, or correct the host and the port of the URL".to_owned());
    }
    if found.starts_with(network::NO_ANSWER) {
        let fix = "see the server's log; if a firewall drops the connection, set HTTPS_PROXY to the company's proxy";
        return (found, "all clients", fix.to_owned());
    }
    let fix = "check the name, the port, the network, and that the certificate is one that browsers trust";
    (found, "all clients", fix.to_owned())
}

/// All errors of a chain, those within errors of I/O included.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for own in error.chain() {
        let inner = own.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        _ = write!(text, "{own:?} ");
        if let Some(inner) = inner {
            _ = write!(text, "{inner:?} {:?} ", inner.source());
        }
    }
    text
}

/// Compares the clocks: offsets are how many seconds a clock is ahead of this machine's.
pub(super) fn clock(server: Option<i64>, issuers: &[i64], report: &mut Report) {
    let Some(server) = server else { return };
    if server.abs() <= MAX_OFFSET {
        return report.ok("clock", format!("the server's differs by {} s at most", server.abs() + 1));
    }
    let ahead = |offset: i64| format!("{} s {}", offset.abs(), if offset > 0 { "ahead" } else { "behind" });
    if issuers.iter().any(|issuer| issuer.abs() <= MAX_OFFSET) {
        report.problem(
            "clock",
            format!("the server's is {} of this machine's and of the issuer's", ahead(server)),
            "all clients that sign in: the server rejects tokens as not yet valid, or takes those that have expired",
            "set the server's clock (NTP)",
        );
    } else {
        let is_sure = issuers.iter().any(|issuer| (issuer - server).abs() <= MAX_OFFSET);
        let found = match is_sure {
            true => format!("this machine's is {} of the server's and of the issuer's", ahead(-server)),
            false => format!("the server's is {} of this machine's", ahead(server)),
        };
        let fix = "set this machine's clock (NTP), or the server's, whichever is wrong: `date -u` shows this one";
        let level = if is_sure || server.abs() > 5 * MAX_OFFSET { Level::Problem } else { Level::Note };
        let clients = "mcpl on this machine: tokens, signatures (AWS grants 5 minutes) and certificates";
        report.add("clock", level, found, clients.to_owned(), fix.to_owned());
    }
}

/// Examines the times of a token, if it is a JWT, without verification.
pub(super) fn token_times(token: &str, now: i64, report: &mut Report) {
    let payload = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| crate::received::read::<Value>(&String::from_utf8_lossy(&bytes)).ok());
    let Some(claims) = claims.filter(Value::is_object) else {
        return report.ok("token", "there is one, which is no JWT");
    };
    // NumericDate may have a fraction (RFC 7519, section 2).
    let time = |name: &str| {
        let since = Duration::try_from_secs_f64(claims[name].as_f64()?).ok()?;
        i64::try_from(since.as_secs()).ok()
    };
    let begins = time("nbf").max(time("iat"));
    if let Some(ahead) = begins.map(|begins| begins - now).filter(|ahead| *ahead > MAX_OFFSET) {
        return report.problem(
            "token",
            format!("it is valid in {ahead} s only: `iat` or `nbf` is ahead of this machine's clock"),
            THIS_PROGRAM,
            "this machine's clock is behind, or the issuer's ahead",
        );
    }
    match time("exp").map(|end| end - now) {
        Some(left) if left <= 0 => report.problem(
            "token",
            format!("it has expired {} s ago by this machine's clock", -left),
            THIS_PROGRAM,
            "get a new one: `mcpl login URL` signs in; if it is new, this machine's clock is ahead",
        ),
        Some(left) => report.ok("token", format!("it is valid for {left} s")),
        None => report.ok("token", "it has no `exp`"),
    }
}

/// Examines the state folder, the file of the server and the keychain. Returns whether the stored data can be read.
pub(super) fn store(url: &str, folder: Option<&Path>, report: &mut Report) -> bool {
    let store = match Store::of(url, folder) {
        Ok(store) => store,
        Err(error) => {
            let fix = "the folder must be yours alone, of mode 700; `--state-dir` or MCPL_STATE_DIR name another";
            report.problem("store", format!("tokens cannot be kept: {error}"), THIS_PROGRAM, fix);
            return false;
        }
    };
    let file = store.file();
    if let Err(error) = is_writable(file) {
        report.problem(
            "store",
            format!("{} cannot be written: {error}", file.parent().unwrap_or(file).display()),
            "mcpl on this machine: it signs in anew at each start",
            "make it, or the nearest folder above it that exists, writable, or give `--state-dir` or MCPL_STATE_DIR",
        );
    }
    let kept = match store.damage() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "nothing is kept for this server",
        Ok(None) => "tokens or a client are kept for this server",
        Ok(Some(place)) => {
            let found = format!("{} is broken at {place}: what it had is lost", file.display());
            report.note("store", found, THIS_PROGRAM, format!("`mcpl forget {url}`, and sign in again"));
            return false;
        }
        Err(error) => {
            let fix = format!("make it readable, or unlock the keychain, or `mcpl forget {url}` and sign in again");
            report.problem("store", format!("what is kept cannot be read: {error}"), THIS_PROGRAM, fix);
            return false;
        }
    };
    if folder.is_none()
        && let Err(error) = keychain::probe()
    {
        report.note(
            "keychain",
            format!("there is none to use ({error:#}): files of mode 600 hold the tokens"),
            THIS_PROGRAM,
            "nothing to do, unless others can read your files: then start a keychain (Secret Service) and sign in again",
        );
    }
    if !report.has_problem("store") {
        report.ok("store", format!("{}: {kept}", file.parent().unwrap_or(file).display()));
    }
    true
}

/// Whether a file could be written: into its folder, or into its nearest existing parent.
fn is_writable(file: &Path) -> io::Result<()> {
    let folder = file.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".mcpl-").tempfile_in(folder).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_the_issuers() {
        let examined = |server, issuers: &[i64]| {
            let mut report = Report::default();
            clock(Some(server), issuers, &mut report);
            (report.findings[0].level, report.findings[0].found.clone())
        };

        assert_eq!(examined(-60, &[]).0, Level::Ok);
        assert!(
            matches!(examined(3600, &[0]), (Level::Problem, found) if found.starts_with("the server's is 3600 s ahead"))
        );
        assert!(
            matches!(examined(-3600, &[-3590]), (Level::Problem, found) if found.starts_with("this machine's is 3600 s ahead"))
        );
        assert_eq!(examined(120, &[]).0, Level::Note);
        assert_eq!(examined(-301, &[]).0, Level::Problem);
    }

    #[test]
    fn the_times_of_a_token_are_compared_with_the_clock() {
        let examined = |claims: &str| {
            let mut report = Report::default();
            let token = format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims));
            token_times(&token, 1_000, &mut report);
            (report.findings[0].level, report.findings[0].found.clone())
        };

        assert_eq!(examined(r#"{"iat":1060,"exp":1300}"#), (Level::Ok, "it is valid for 300 s".to_owned()));
        assert!(matches!(examined(r#"{"iat":1061,"exp":1300}"#), (Level::Problem, found) if found.contains("in 61 s")));
        assert!(matches!(examined(r#"{"iat":10,"nbf":2000}"#), (Level::Problem, found) if found.contains("in 1000 s")));
        assert!(matches!(examined(r#"{"exp":1000}"#), (Level::Problem, found) if found.contains("expired 0 s ago")));
        assert_eq!(examined("[]").0, Level::Ok);
    }
}
