//! The redirect of a sign-in: a listener on loopback, and the page that the browser shows.

use std::{io, io::IsTerminal as _, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use url::form_urlencoded;

const PATH: &str = "/callback";
/// Timeout of writing the browser's page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the browser's page waits for the outcome of the token request.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// Delay between two attempts to bind a port that is taken.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The host of the redirect URI, as it is registered at the issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CallbackHost {
    #[default]
    #[value(name = "127.0.0.1")]
    Address,
    #[value(name = "localhost")]
    Localhost,
}

/// Listener for the redirect, on 127.0.0.1.
#[derive(Debug)]
pub(crate) struct CallbackListener {
    listener: TcpListener,
    host: CallbackHost,
    port: u16,
}

/// The parameters of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) code: Option<String>,
    /// The issuer that it names (RFC 9207).
    pub(crate) issuer: Option<String>,
    /// The issuer's `error` and `error_description`.
    pub(crate) error: Option<String>,
}

/// The expected parameters of a redirect.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedRedirect {
    pub(crate) state: String,
    pub(crate) issuer: Option<String>,
    /// Whether the issuer's redirects always name it.
    pub(crate) requires_issuer: bool,
}

impl ExpectedRedirect {
    /// Parses a redirect's query. Any page can send a browser here: a redirect without this `state` does not belong to this
    /// sign-in, nor does an error without the required `iss`. (A code is sent to the right issuer only.)
    fn read(&self, query: &str) -> Option<Redirect> {
        let parameter = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(own, _)| own == name).map(|(_, value)| value.into_owned())
        };
        if parameter("state")? != self.state {
            return None;
        }
        let (issuer, code) = (parameter("iss"), parameter("code"));
        let error = parameter("error").map(|code| match parameter("error_description") {
            Some(description) => format!("{code}: {description}"),
            None => code,
        });
        let is_of_issuer = if issuer.is_some() { issuer == self.issuer } else { !self.requires_issuer };
        // The address of the sign-in page has the state too, and neither of these.
        let has_ended = code.is_some() || error.is_some();
        (has_ended && (error.is_none() || is_of_issuer)).then_some(Redirect { code, issuer, error })
    }
}

impl CallbackListener {
    /// Listens on a port; 0 for a free one.
    pub(crate) async fn bind(host: CallbackHost, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, host, port })
    }

    /// Binds a port, waiting while another sign-in uses it.
    pub(crate) async fn bind_when_free(host: CallbackHost, port: u16) -> io::Result<Self> {
        let mut is_logged = false;
        loop {
            match Self::bind(host, port).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
            if !std::mem::replace(&mut is_logged, true) {
                tracing::warn!("port {port} is taken, perhaps by another sign-in: waiting for it");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The redirect URI.
    pub(crate) fn redirect_uri(&self) -> String {
        let host = match self.host {
            CallbackHost::Address => "127.0.0.1",
            CallbackHost::Localhost => "localhost",
        };
        format!("http://{host}:{}{PATH}", self.port)
    }

    /// Waits for the redirect of a sign-in; other requests get an error page. The browser of the redirect waits
    /// for the outcome.
    pub(crate) async fn wait(self, expected: ExpectedRedirect) -> io::Result<(Redirect, WaitingPage)> {
        let (sender, mut redirects) = mpsc::channel(1);
        let expected = Arc::new(expected);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted?;
                    let (sender, expected) = (sender.clone(), Arc::clone(&expected));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (sender, expected) = (sender.clone(), Arc::clone(&expected));
                        async move { Ok::<_, std::convert::Infallible>(answer(request.uri(), &expected, &sender).await) }
                    });
                    connections.spawn(async move {
                        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
                    });
                }
                Some((redirect, outcome)) = redirects.recv() => {
                    return Ok((redirect, WaitingPage { connections, outcome }));
                }
            }
        }
    }
}

/// The browser's pending page, which is sent when the sign-in has ended.
#[derive(Debug)]
pub(crate) struct WaitingPage {
    connections: JoinSet<Result<(), hyper::Error>>,
    outcome: oneshot::Sender<Result<(), String>>,
}

impl WaitingPage {
    /// Shows how the sign-in has ended.
    pub(crate) async fn show(self, outcome: Result<(), String>) {
        let Self { mut connections, outcome: sender } = self;
        let _ = sender.send(outcome);
        // A connection without a request is not waited for.
        let written = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(PAGE_TIMEOUT, written).await;
    }
}

/// Whether the address of a redirect can be pasted: at a terminal, but not on Windows, where a line cannot be waited for
/// without taking the answer to the next question.
pub(crate) fn can_paste() -> bool {
    cfg!(unix) && io::stdin().is_terminal()
}

/// Waits for the address of a redirect on the terminal, where a browser on another machine has ended at it.
pub(crate) async fn pasted(expected: ExpectedRedirect) -> io::Result<Redirect> {
    loop {
        let Some(line) = terminal_line().await? else { return std::future::pending().await };
        let query = line.trim().split_once('?').map_or(line.trim(), |(_, query)| query);
        match expected.read(query) {
            Some(redirect) => return Ok(redirect),
            None if line.trim().is_empty() => {}
            None => tracing::warn!("this is not the address at which the page of this sign-in ends: paste that one"),
        }
    }
}

/// A line of the terminal; `None` if there is none. Nothing is read before it is there, so that a question after the sign-in
/// gets its own answer.
#[cfg(unix)]
async fn terminal_line() -> io::Result<Option<String>> {
    use std::os::fd::AsFd as _;

    use nix::{
        errno::Errno,
        poll::{PollFd, PollFlags, poll},
    };

    /// After it the thread looks whether the line is still wanted.
    const TIMEOUT_MILLISECONDS: u8 = 200;

    if !can_paste() {
        return Ok(None);
    }
    let (sender, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            let stdin = io::stdin();
            match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], TIMEOUT_MILLISECONDS) {
                Ok(0) | Err(Errno::EINTR) => continue,
                _ => {}
            }
            let mut line = String::new();
            let read = stdin.read_line(&mut line).map(|bytes| (bytes > 0).then_some(line));
            let _ = sender.send(read);
            return;
        }
    });
    receiver.await.map_err(io::Error::other)?
}

#[cfg(not(unix))]
async fn terminal_line() -> io::Result<Option<String>> {
    Ok(None)
}

async fn answer(
    uri: &Uri,
    expected: &ExpectedRedirect,
    sender: &mpsc::Sender<(Redirect, oneshot::Sender<Result<(), String>>)>,
) -> Response<Full<Bytes>> {
    if uri.path() != PATH {
        return page(StatusCode::NOT_FOUND, "Nothing is here", "This is where a sign-in ends.");
    }
    let not_signed_in = |text: &str| page(StatusCode::OK, "Not signed in", text);
    let Some(redirect) = expected.read(uri.query().unwrap_or_default()) else {
        let text = "This is not the answer to the sign-in that mcpl has begun. Start again at your client.";
        return page(StatusCode::BAD_REQUEST, "Not signed in", text);
    };
    let error = redirect.error.clone();
    let (outcome, shown) = oneshot::channel();
    // A second redirect is not waited for.
    let is_first = sender.try_send((redirect, outcome)).is_ok();
    if let Some(error) = error {
        return not_signed_in(&format!("The issuer answered: {error}"));
    }
    if !is_first {
        return not_signed_in("This sign-in has come back already. Your client shows how it ended.");
    }
    match tokio::time::timeout(OUTCOME_TIMEOUT, shown).await {
        Ok(Ok(Ok(()))) => page(StatusCode::OK, "Signed in", "You can close this page. Your client goes on from here."),
        Ok(Ok(Err(reason))) => not_signed_in(&reason),
        // The issuer is slow, or mcpl has ended.
        Ok(Err(_)) | Err(_) => page(
            StatusCode::OK,
            "Signing in goes on",
            "The issuer has not answered yet. Your client shows how it ends.",
        ),
    }
}

fn page(status: StatusCode, title: &str, text: &str) -> Response<Full<Bytes>> {
    let text = escape(text);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title} – mcpl</title>\n<style>:root {{ color-scheme: light dark }} body {{ font: 1.1rem/1.5 system-ui; \
         max-width: 34rem; margin: 4rem auto; padding: 0 1rem }}</style>\n<h1>{title}</h1>\n<p>{text}</p>\n</html>\n"
    );
    let mut response = Response::new(Full::from(html));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(url: String) -> String {
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    fn expected(state: &str, issuer: Option<&str>, requires_issuer: bool) -> ExpectedRedirect {
        ExpectedRedirect { state: state.to_owned(), issuer: issuer.map(str::to_owned), requires_issuer }
    }

    #[tokio::test]
    async fn only_the_redirect_of_this_sign_in_ends_it() {
        let listener = CallbackListener::bind(CallbackHost::Address, 0).await.unwrap();
        let base = listener.redirect_uri();
        assert!(base.starts_with("http://127.0.0.1:"));
        let waiting = tokio::spawn(listener.wait(expected("right", None, false)));

        assert!(get(format!("{base}?code=c&state=wrong")).await.contains("Not signed in"));
        assert!(get(format!("{base}?code=c")).await.contains("Not signed in"));
        assert!(get(base.replace(PATH, "/")).await.contains("Nothing is here"));
        assert!(!waiting.is_finished());
        // The address of the sign-in page, which has no answer in it.
        assert!(get(format!("{base}?client_id=c&state=right")).await.contains("Not signed in"));
        let shown = tokio::spawn(get(format!("{base}?code=c&state=right")));

        let (redirect, page) = waiting.await.unwrap().unwrap();
        assert!(!shown.is_finished(), "the outcome is not known yet");
        page.show(Ok(())).await;
        assert!(shown.await.unwrap().contains("close this page"));
        assert_eq!(redirect, Redirect { code: Some("c".to_owned()), issuer: None, error: None });
    }

    #[tokio::test]
    async fn the_page_shows_why_the_issuer_gave_no_token() {
        let listener = CallbackListener::bind(CallbackHost::Address, 0).await.unwrap();
        let base = listener.redirect_uri();
        let waiting = tokio::spawn(listener.wait(expected("s", None, false)));
        let shown = tokio::spawn(get(format!("{base}?code=c&state=s")));

        let (_, page) = waiting.await.unwrap().unwrap();
        page.show(Err("the issuer gave no token: <invalid_grant>".to_owned())).await;

        let shown = shown.await.unwrap();
        assert!(shown.contains("Not signed in") && shown.contains("no token: &lt;invalid_grant&gt;"), "{shown}");
    }

    #[tokio::test]
    async fn the_text_of_the_issuer_is_escaped() {
        let listener = CallbackListener::bind(CallbackHost::Address, 0).await.unwrap();
        let base = listener.redirect_uri();
        let waiting = tokio::spawn(listener.wait(expected("s", Some("https://id.example"), false)));

        let other = get(format!("{base}?error=x&error_description=EVIL&iss=https://evil.example&state=s")).await;
        assert!(!other.contains("EVIL"), "{other}");
        let page =
            get(format!("{base}?iss=https://id.example&error=access_denied&error_description=%3Cscript%3E&state=s"))
                .await;

        assert!(page.contains("access_denied: &lt;script&gt;") && !page.contains("<script>"), "{page}");
        assert_eq!(waiting.await.unwrap().unwrap().0.error.as_deref(), Some("access_denied: <script>"));
    }

    #[tokio::test]
    async fn an_error_without_the_advertised_issuer_is_neither_shown_nor_acted_on_c2() {
        let listener = CallbackListener::bind(CallbackHost::Address, 0).await.unwrap();
        let base = listener.redirect_uri();
        let waiting = tokio::spawn(listener.wait(expected("s", Some("https://id.example"), true)));

        for iss in ["", "&iss=https://evil.example", "&iss="] {
            let page = get(format!("{base}?error=x&error_description=EVIL&state=s{iss}")).await;
            assert!(page.contains("not the answer") && !page.contains("EVIL"), "{page}");
        }
        assert!(!waiting.is_finished());
        let page = get(format!("{base}?error=x&state=s&iss=https://id.example")).await;

        assert!(page.contains("The issuer answered: x"), "{page}");
        assert_eq!(waiting.await.unwrap().unwrap().0.error.as_deref(), Some("x"));
        // Not advertised, it may be left out.
        assert!(expected("s", Some("https://id.example"), false).read("error=x&state=s").is_some());
    }

    #[tokio::test]
    async fn the_redirect_may_name_localhost() {
        let listener = CallbackListener::bind(CallbackHost::Localhost, 0).await.unwrap();

        assert_eq!(listener.redirect_uri(), format!("http://localhost:{}/callback", listener.port()));
    }

    #[tokio::test]
    async fn a_port_is_waited_for_o14() {
        let taken = CallbackListener::bind(CallbackHost::Address, 0).await.unwrap();
        let port = taken.port();
        let waiting = tokio::spawn(CallbackListener::bind_when_free(CallbackHost::Address, port));
        tokio::task::yield_now().await;
        assert!(CallbackListener::bind(CallbackHost::Address, port).await.is_err());
        drop(taken);

        assert_eq!(waiting.await.unwrap().unwrap().port(), port);
    }
}
