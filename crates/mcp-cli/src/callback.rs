//! The end of a sign-in: a listener on loopback that the browser is sent to, and the page that it shows there.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use url::Url;

const PATH: &str = "/callback";
/// For the page that the browser is shown.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for the browser, on 127.0.0.1 alone.
#[derive(Debug)]
pub(crate) struct CallbackListener {
    listener: TcpListener,
    port: u16,
}

/// What the browser brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// The whole URL.
    pub(crate) url: String,
    /// What the issuer says went wrong: `error`, and its description.
    pub(crate) error: Option<String>,
}

impl CallbackListener {
    /// Listens on a port; 0 for a free one.
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// What the issuer must send the browser to.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the redirect that carries `state`; others are shown an error and waited on from.
    pub(crate) async fn wait(self, state: String, issuer: Option<String>) -> io::Result<Redirect> {
        let (sender, mut redirects) = mpsc::channel(1);
        let expected = Arc::new(Expected { base: self.redirect_uri(), state, issuer });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted?;
                    let (sender, expected) = (sender.clone(), Arc::clone(&expected));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answered = answer(&request, &expected, &sender);
                        async move { Ok::<_, std::convert::Infallible>(answered) }
                    });
                    connections.spawn(async move {
                        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
                    });
                }
                Some(redirect) = redirects.recv() => {
                    // The browser gets its page first; whoever says nothing is not waited for.
                    let written = async { while connections.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(PAGE_TIMEOUT, written).await;
                    return Ok(redirect);
                }
            }
        }
    }
}

/// What the redirect must have.
struct Expected {
    base: String,
    state: String,
    issuer: Option<String>,
}

fn answer(request: &Request<Incoming>, expected: &Expected, sender: &mpsc::Sender<Redirect>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return page(StatusCode::NOT_FOUND, "Nothing is here", "This is where a sign-in ends.");
    }
    let query = request.uri().query().unwrap_or_default();
    let Ok(url) = Url::parse(&format!("{}?{query}", expected.base)) else {
        return page(StatusCode::BAD_REQUEST, "Not understood", "The address is malformed.");
    };
    let parameter = |name: &str| url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned());
    // Anyone can send a browser here: only who was sent away with this state is waited for.
    // The issuer, where it says who it is, must be the one that was asked (RFC 9207), also in an error.
    let is_other_issuer = parameter("iss").is_some_and(|issuer| Some(issuer) != expected.issuer);
    if parameter("state").as_deref() != Some(expected.state.as_str())
        || (is_other_issuer && parameter("error").is_some())
    {
        let text = "This is not the answer to the sign-in that mcpl has begun. Start again at your client.";
        return page(StatusCode::BAD_REQUEST, "Not signed in", text);
    }
    let error = parameter("error").map(|code| match parameter("error_description") {
        Some(description) => format!("{code}: {description}"),
        None => code,
    });
    let shown = match &error {
        None => page(StatusCode::OK, "Signed in", "You can close this page. Your client goes on from here."),
        Some(error) => page(StatusCode::OK, "Not signed in", &format!("The issuer answered: {error}")),
    };
    // A second redirect is not waited for.
    let _ = sender.try_send(Redirect { url: url.into(), error });
    shown
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

    #[tokio::test]
    async fn only_the_redirect_of_this_sign_in_ends_it() {
        let listener = CallbackListener::bind(0).await.unwrap();
        let base = listener.redirect_uri();
        assert!(base.starts_with("http://127.0.0.1:"));
        let waiting = tokio::spawn(listener.wait("right".to_owned(), None));

        assert!(get(format!("{base}?code=c&state=wrong")).await.contains("Not signed in"));
        assert!(get(format!("{base}?code=c")).await.contains("Not signed in"));
        assert!(get(base.replace(PATH, "/")).await.contains("Nothing is here"));
        assert!(!waiting.is_finished());
        assert!(get(format!("{base}?code=c&state=right")).await.contains("close this page"));

        let redirect = waiting.await.unwrap().unwrap();
        assert_eq!(redirect, Redirect { url: format!("{base}?code=c&state=right"), error: None });
    }

    #[tokio::test]
    async fn what_the_issuer_says_is_shown_as_text() {
        let listener = CallbackListener::bind(0).await.unwrap();
        let base = listener.redirect_uri();
        let waiting = tokio::spawn(listener.wait("s".to_owned(), Some("https://id.example".to_owned())));

        let other = get(format!("{base}?error=x&error_description=EVIL&iss=https://evil.example&state=s")).await;
        assert!(!other.contains("EVIL"), "{other}");
        let page =
            get(format!("{base}?iss=https://id.example&error=access_denied&error_description=%3Cscript%3E&state=s"))
                .await;

        assert!(page.contains("access_denied: &lt;script&gt;") && !page.contains("<script>"), "{page}");
        assert_eq!(waiting.await.unwrap().unwrap().error.as_deref(), Some("access_denied: <script>"));
    }
}
