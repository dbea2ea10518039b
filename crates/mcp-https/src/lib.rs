//! An HTTPS client for functions, with limits of time and size, and protection against server-side request forgery (SSRF).
//!
//! A [`Client`] has one of two trust levels, by the source of the URLs:
//!
//! | Constructor | For URLs from | Addresses |
//! | --- | --- | --- |
//! | [`Client::trusted`] | the operator or the author: an issuer, an API | `https` to any address; `http` to loopback |
//! | [`Client::foreign`] | untrusted sources: arguments, documents, results | `https` to public addresses |
//!
//! A foreign URL is validated first. Then its name is resolved, and all addresses are checked: a name with one address that is not
//! public is rejected. The connection is opened to a checked address, without a second DNS query, which prevents DNS rebinding.
//!
//! An operator can configure the address of single names: see [`foreign_with_hosts`].
//!
//! Every request has a timeout that includes the response body, and every response has a size limit. Redirects are not followed,
//! bodies are not decompressed, and proxy variables of the environment are ignored.
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
//! // Create it once, in the function's state, so that connections are reused.
//! let client = Client::foreign().max_response_bytes(64 * 1024);
//! title(&client, "https://www.example.com/robots.txt").await?;
//! # Ok(())
//! # }
//! ```
//!
//! | Module | What it holds |
//! | --- | --- |
//! | `client` | [`Client`] and [`RequestBuilder`] |
//! | `response` | [`Response`], whose body is limited in time and size |
//! | `connect` | DNS resolution, address checks, TCP and TLS |
//! | `hosts` | names with a configured address |
//! | `url` | validation of URLs |
//! | `address` | classification of IP addresses |
//! | `error` | [`Error`] |

mod address;
mod client;
mod connect;
mod error;
mod hosts;
mod response;
mod url;

pub use bytes::Bytes;
pub use client::{Client, RequestBuilder, dangerously_unrestricted, foreign_with_hosts};
pub use error::Error;
pub use hosts::HostsError;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
pub use response::Response;

#[cfg(test)]
mod tests;
