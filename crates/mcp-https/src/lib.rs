//! Outbound HTTPS requests of a function, with limits of time and size, and protection against server-side request
//! forgery (SSRF).
//!
//! A [`Client`] has one of two trust levels, which depends on where URLs come from:
//!
//! | Constructor | For URLs from | Addresses |
//! | --- | --- | --- |
//! | [`Client::trusted`] | the operator or the author: an issuer, an API | `https` to any address; `http` to loopback |
//! | [`Client::foreign`] | arguments, documents, results: bytes of others | `https` to public addresses |
//!
//! A foreign URL is checked before anything is sent, and its addresses are checked after the name was resolved: the
//! connection is opened to a checked address, so that a second DNS answer changes nothing (DNS rebinding). A name with one
//! address that is not public is rejected.
//!
//! Every request has a time limit that includes the body, and every response has a size limit. Redirects are not
//! followed, bodies are not decompressed, proxies from the environment are not used.
//!
//! ```no_run
//! use mcp_https::{Client, Error, header};
//!
//! async fn title(client: &Client, url: &str) -> Result<String, Error> {
//!     let response = client.get(url).header(header::ACCEPT, "text/plain").send().await?;
//!     let text = response.bytes().await?;
//!     Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
//! }
//!
//! # async fn example() -> Result<(), Error> {
//! // Made once, in the function's state: connections are kept while they are likely to be alive.
//! let client = Client::foreign().max_response_bytes(64 * 1024);
//! title(&client, "https://www.example.com/robots.txt").await?;
//! # Ok(())
//! # }
//! ```
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `client` | [`Client`] and [`RequestBuilder`] |
//! | `response` | [`Response`], whose body is read within its limits |
//! | `connect` | resolution, the check of addresses, TCP and TLS |
//! | `url` | which URLs a client accepts |
//! | `address` | which addresses are public |
//! | `error` | [`Error`] |

mod address;
mod client;
mod connect;
mod error;
mod response;
mod url;

pub use bytes::Bytes;
pub use client::{Client, RequestBuilder, dangerously_unrestricted};
pub use error::Error;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use response::Response;

#[cfg(test)]
mod tests;
