//! Responses to `GET`: the HTML page for browsers, and the protected resource metadata (RFC 9728).

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use mcp_server::Invocation;

use super::responses::{auth_error_response, empty, html, json_body, method_not_allowed, not_found, without_body};
use crate::{Body, McpService, PublicUrl, origin::add_preflight_headers};

impl McpService {
    /// The HTML page, which is the same for every caller.
    pub(super) fn page(&self, method: &Method, own_url: Option<&PublicUrl>) -> Response<Body> {
        match *method {
            Method::HEAD => html(String::new()),
            _ => {
                let endpoint = own_url.map(|url| format!("{}/mcp", url.as_str()));
                let summary = self.server.describe(None);
                let (name, issuers) = (self.server.name(), self.authenticator.issuers());
                html(mcp_page::render(name, summary.as_ref(), &issuers, endpoint.as_deref()))
            }
        }
    }

    /// The protected resource metadata, by which clients find the issuer. It is public, for any origin, without a token.
    pub(super) fn well_known(
        &self,
        parts: &Parts,
        path: &str,
        own_url: Option<&PublicUrl>,
        invocation: &Invocation,
    ) -> Response<Body> {
        let metadata = self.authenticator.metadata(path, own_url, &self.server);
        let mut response = match (&parts.method, metadata) {
            (&Method::OPTIONS, _) => {
                let mut response = empty(StatusCode::NO_CONTENT);
                add_preflight_headers(&parts.headers, response.headers_mut(), false);
                response
                    .headers_mut()
                    .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
                response
            }
            (_, None) => not_found(),
            (&(Method::GET | Method::HEAD), Some(Ok(metadata))) => json_body(StatusCode::OK, metadata),
            (&(Method::GET | Method::HEAD), Some(Err(rejected))) => {
                rejected.log(&invocation.request_id);
                auth_error_response(&rejected, None, None)
            }
            (_, Some(_)) => method_not_allowed("the metadata supports GET and HEAD", "GET, HEAD, OPTIONS"),
        };
        // On a 404 too, so that clients in a browser can read the status.
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if parts.method == Method::HEAD { without_body(response) } else { response }
    }
}
