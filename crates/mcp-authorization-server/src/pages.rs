//! HTML pages: consent and errors, and what all pages share. They have no script and no external content.

use std::fmt::{self, Display, Write};

use aws_lc_rs::digest;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode, header};
use mcp_server::uri::SecureUrl;

use crate::{
    AuthorizationRequest, Client, ClientKind, Resource,
    responses::{HttpResponse, response, set},
    texts::{Language, Texts},
};

const STYLE: &str = include_str!("page.css");

/// Content of the consent page.
pub(crate) struct ConsentPage<'a> {
    pub(crate) language: Language,
    pub(crate) client: &'a Client,
    pub(crate) request: &'a AuthorizationRequest,
    pub(crate) resource: &'a Resource,
    /// Issuer of the identity provider; `None` after the sign-in.
    pub(crate) next: Option<&'a str>,
    /// The sealed form, which the browser sends back.
    pub(crate) form: &'a str,
    /// Path of the form's target.
    pub(crate) action: &'a str,
}

impl ConsentPage<'_> {
    /// Renders the page.
    pub(crate) fn render(&self) -> HttpResponse {
        let Self { language, client, request, resource, next, form, action } = self;
        let texts = language.texts();
        let domain = host(&client.id).filter(|_| client.kind == ClientKind::Document);
        let shown = domain.as_deref().or(client.name.as_deref()).unwrap_or(&client.id);
        let mut body = String::new();
        let scopes = resource
            .scopes
            .iter()
            .filter(|own| request.scopes.contains(&own.name))
            .map(|own| own.text_in(language.tag()));
        let scopes: Vec<_> = scopes.collect();
        let written = (|| {
            let [before, after] = texts.asks;
            write!(body, "<h1>{before} <strong>{}</strong> {after}</h1><dl>", Escaped(shown))?;
            write!(body, "<dt>{}</dt>{}", texts.application, application(client, domain.as_deref(), texts))?;
            let server = host(&resource.url).unwrap_or_default();
            write!(body, "<dt>{}</dt><dd>{} ({})</dd>", texts.server, Escaped(&resource.name), Escaped(&server))?;
            write!(body, "<dt>{}</dt>", texts.permissions)?;
            if scopes.is_empty() {
                write!(body, "<dd>{}</dd>", texts.no_permissions)?;
            }
            for scope in scopes {
                write!(body, "<dd>{}</dd>", Escaped(scope))?;
            }
            let authority = request.redirect_uri.authority();
            write!(body, "<dt>{}</dt><dd><code>{}</code>", texts.answer_goes_to, Escaped(&authority))?;
            match request.redirect_uri.is_loopback() {
                true => write!(
                    body,
                    " ({})</dd></dl><p class=\"warning\">{}</p>",
                    texts.own_computer, texts.loopback_warning
                )?,
                false => body.push_str("</dd></dl>"),
            }
            if let Some(next) = next {
                write!(body, "<p>{} <code>{}</code>.</p>", texts.next_step, Escaped(&host(next).unwrap_or_default()))?;
            }
            write!(
                body,
                "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"form\" value=\"{}\">\
                 <button name=\"decision\" value=\"approve\">{}</button>\
                 <button name=\"decision\" value=\"deny\">{}</button></form>",
                Escaped(action),
                Escaped(form),
                texts.approve,
                texts.deny
            )
        })();
        // Writing to a string cannot fail.
        debug_assert!(written.is_ok());
        // Browsers apply `form-action` to the redirects after a form, too: to the identity provider, and to the client.
        // A policy cannot name the address `[::1]`, so that loopback needs the wildcard.
        let is_http = request.redirect_uri.is_loopback() || next.is_some_and(|own| own.starts_with("http:"));
        let form_action = if is_http { "*" } else { "'self' https:" };
        page(StatusCode::OK, *language, texts.title, &body, form_action)
    }
}

fn application(client: &Client, domain: Option<&str>, texts: &Texts) -> String {
    let name = client.name.as_deref().unwrap_or_default();
    match client.kind {
        ClientKind::Document => format!(
            "<dd><code>{}</code>, {}</dd><dd>{} {}</dd>",
            Escaped(domain.unwrap_or_default()),
            texts.verified_domain,
            Escaped(name),
            if name.is_empty() { "" } else { texts.unverified }
        ),
        ClientKind::Registered => format!("<dd>{} {}</dd>", Escaped(name), texts.unverified),
        ClientKind::Configured => format!("<dd>{}, {}</dd>", Escaped(name), texts.configured),
    }
}

/// Content of an error page.
pub(crate) struct ErrorPage<'a> {
    pub(crate) status: StatusCode,
    pub(crate) language: Language,
    /// HTML.
    pub(crate) text: &'a str,
    /// For developers.
    pub(crate) detail: Option<&'a str>,
    /// URL at which the client gets the error.
    pub(crate) link: Option<&'a str>,
}

impl ErrorPage<'_> {
    /// Renders the page.
    pub(crate) fn render(&self) -> HttpResponse {
        let Self { status, language, text, detail, link } = self;
        let texts = language.texts();
        let mut body = format!("<h1>{}</h1><p>{text}</p>", texts.error_title);
        if let Some(detail) = detail {
            body.push_str(&format!("<p lang=\"en\"><code>{}</code></p>", Escaped(detail)));
        }
        if let Some(url) = link {
            let host = host(url).unwrap_or_default();
            let link = format!("<p><a href=\"{}\">{}</a> ({})</p>", Escaped(url), texts.return_link, Escaped(&host));
            body.push_str(&link);
        }
        page(*status, *language, texts.error_title, &body, "'none'")
    }
}

pub(crate) fn page(status: StatusCode, language: Language, title: &str, body: &str, form_action: &str) -> HttpResponse {
    let tag = language.tag();
    let html = format!(
        "<!doctype html><html lang=\"{tag}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    let style = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    );
    let mut response = response(status, html);
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    set(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    // For browsers without `frame-ancestors`.
    set(&mut response, header::X_FRAME_OPTIONS, "DENY");
    response
}

/// Returns the host of a URL in lower case, with a port that is not the default. An internationalized domain is in its ASCII form. So a
/// host cannot look like another one: `cIaude.ai` is shown as `ciaude.ai`.
pub(crate) fn host(url: &str) -> Option<String> {
    let url = SecureUrl::parse(url)?;
    let host = url.host.to_ascii_lowercase();
    let default = if url.is_https { 443 } else { 80 };
    Some(match url.port.filter(|port| *port != default) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// Text with the special characters of HTML escaped, for content and quoted attributes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for own in self.0.chars() {
            match own {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                own => f.write_char(own)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_in_lower_case_with_its_port() {
        for (url, expected) in [
            ("https://cIaude.ai/c.json", Some("ciaude.ai")),
            ("https://app.example:443/", Some("app.example")),
            ("https://app.example:8443/", Some("app.example:8443")),
            ("http://localhost:80/", Some("localhost")),
            ("http://localhost:8080/", Some("localhost:8080")),
            ("app.example", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }
}
