//! The start of a connection: TLS, the startup message, admission, the token.

use std::{sync::Arc, time::SystemTime};

use tokio::{io::AsyncWriteExt, net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    backend::execute,
    emulator::Shared,
    error_response::ErrorResponse,
    jobs::quoted,
    policy::literal,
    session::Session,
    token::{self, ADMIN},
    wire::{Connection, Fields, WireError, server_message},
};

/// Limit of Postgres.
const MAX_STARTUP: usize = 10_000;
/// A message over 10 MiB closes the connection, without an error (TROUBLESHOOTING).
const MAX_MESSAGE: usize = 10 << 20;
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
const GSS_REQUEST: [u8; 4] = 80_877_104_u32.to_be_bytes();
const PROTOCOL_MAJOR: [u8; 2] = 3_u16.to_be_bytes();
/// Parameters that drivers send. Others are rejected (STRICT).
const PARAMETERS: [&str; 7] =
    ["application_name", "client_encoding", "database", "datestyle", "extra_float_digits", "timezone", "user"];

type Client = Connection<TlsStream<TcpStream>>;

/// A client that was admitted.
pub(crate) struct Started {
    pub(crate) session: Session<TlsStream<TcpStream>>,
    pub(crate) permits: Permits,
}

/// Permits of a connection, and of its session in Postgres.
type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// Starts the session of a new connection; `None` if the connection was rejected.
pub(crate) async fn start(stream: TcpStream, shared: &Arc<Shared>) -> Result<Option<Started>, WireError> {
    let Some((mut client, host)) = negotiate_tls(stream, shared).await? else { return Ok(None) };
    match authenticate(&mut client, host, shared).await {
        Ok(Ok((role, backend, greeting, permits))) => {
            for frame in greeting {
                client.push(&frame);
            }
            client.flush().await?;
            let session = Session::new(client, backend, Arc::clone(shared), role);
            Ok(Some(Started { session, permits }))
        }
        Ok(Err(error)) => {
            client.push(&error);
            client.close().await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Accepts the client's request for TLS, and performs the handshake. Returns the server name that the client sent (SNI).
async fn negotiate_tls(stream: TcpStream, shared: &Shared) -> Result<Option<(Client, Option<String>)>, WireError> {
    stream.set_nodelay(true)?;
    let mut plain = Connection::new(stream, MAX_STARTUP);
    loop {
        let message = plain.read_untagged(MAX_STARTUP).await?;
        if message[..] == GSS_REQUEST {
            plain.push(b"N");
            plain.flush().await?;
        } else if message[..] == SSL_REQUEST {
            // Plain text after the request could have been injected (CVE-2021-23214).
            if plain.has_input() {
                return Err(WireError::Malformed);
            }
            plain.push(b"S");
            plain.flush().await?;
            let mut stream = TlsAcceptor::from(Arc::clone(&shared.tls)).accept(plain.stream).await?;
            // Sends the session tickets, as servers do. A client without TCP_NODELAY otherwise waits 40 ms for a delayed ACK.
            stream.flush().await?;
            let host = stream.get_ref().1.server_name().map(str::to_owned);
            return Ok(Some((Connection::new(stream, MAX_MESSAGE), host)));
        } else {
            // A startup message without TLS, or a request to cancel a statement, which is ignored (STRICT).
            if message.starts_with(&PROTOCOL_MAJOR) {
                plain.push(&ErrorResponse::fatal("08004", "connections without TLS are not supported").encode());
            }
            plain.close().await;
            return Ok(None);
        }
    }
}

type Admitted = (String, Connection<TcpStream>, Vec<Vec<u8>>, Permits);

/// Checks the startup message and the token, and connects to Postgres. The inner error is the message for the client.
async fn authenticate(
    client: &mut Client,
    host: Option<String>,
    shared: &Shared,
) -> Result<Result<Admitted, Vec<u8>>, WireError> {
    let message = client.read_untagged(MAX_STARTUP).await?;
    if !message.starts_with(&PROTOCOL_MAJOR) {
        return Err(WireError::Malformed);
    }
    let (user, settings) = match parameters(&message[4..])? {
        Ok(parameters) => parameters,
        Err(error) => return Ok(Err(error.encode())),
    };
    let permit = match shared.admission.admit() {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error.encode())),
    };
    // <https://docs.aws.amazon.com/aurora-dsql/latest/userguide/troubleshooting.html>
    let Some(host) = host.filter(|host| shared.hosts.contains(host)) else {
        return Ok(Err(ErrorResponse::fatal("08006", "unable to accept connection, sni was not received").encode()));
    };
    client.push(&server_message(b'R', &3_u32.to_be_bytes()));
    client.flush().await?;
    let password = client.read_frame().await?;
    if password.tag() != b'p' {
        return Err(WireError::Malformed);
    }
    let token = Fields(password.body()).string()?;
    if let Err(error) = token::verify(token, &host, &user, &shared.region, &shared.credentials, SystemTime::now()) {
        return Ok(Err(error.encode()));
    }
    if shared.injector.at_authentication() {
        return Ok(Err(ErrorResponse::access_denied("A permission does not apply yet").encode()));
    }
    // Aurora DSQL accepts more connections than Postgres. The semaphore is never closed.
    let session = Arc::clone(&shared.sessions).acquire_owned().await.ok();
    let (mut backend, greeting) = match shared.backend.connect(&settings).await {
        Ok(connected) => connected,
        Err(error) => return Ok(Err(error.encode())),
    };
    if user != ADMIN {
        let arn = &shared.credentials.role_arn;
        let mapped = format!(
            "SELECT 1 FROM sys.iam_pg_role_mappings WHERE pg_role_name = {} AND arn = {}",
            literal(&quoted_text(&user)),
            literal(arn)
        );
        let mapped = execute(&mut backend, &mapped).await;
        if mapped.is_ok_and(|rows| rows.is_empty()) {
            let hint = format!("Role {user} is not granted to {arn} by AWS IAM GRANT");
            return Ok(Err(ErrorResponse::access_denied(hint).encode()));
        }
        if let Err(error) = execute(&mut backend, &format!("SET SESSION AUTHORIZATION {}", quoted(&user))).await {
            return Ok(Err(error.encode()));
        }
    }
    let mut messages = vec![server_message(b'R', &0_u32.to_be_bytes())];
    messages.extend(greeting.iter().map(|frame| frame.0.to_vec()));
    Ok(Ok((user, backend, messages, (permit, session))))
}

/// Returns a role as `regrole::text` shows it.
fn quoted_text(role: &str) -> String {
    let is_plain = role.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && role.chars().all(|own| own.is_ascii_lowercase() || own.is_ascii_digit() || own == '_');
    if is_plain { role.to_owned() } else { quoted(role) }
}

/// The user, and the settings that are passed to Postgres.
type Parameters = (String, Vec<(String, String)>);

fn parameters(body: &[u8]) -> Result<Result<Parameters, ErrorResponse>, WireError> {
    let (mut fields, mut user, mut settings) = (Fields(body), String::new(), Vec::new());
    loop {
        let name = fields.string()?;
        if name.is_empty() {
            break;
        }
        let value = fields.string()?;
        match name.to_lowercase().as_str() {
            "user" => user = value.to_owned(),
            // A cluster has exactly one database.
            "database" if value == "postgres" => {}
            "database" => {
                return Ok(Err(ErrorResponse::fatal("3D000", format!("database \"{value}\" does not exist"))));
            }
            known if PARAMETERS.contains(&known) => settings.push((name.to_owned(), value.to_owned())),
            other => {
                let message = format!("setting configuration parameter \"{other}\" not supported");
                return Ok(Err(ErrorResponse::fatal("0A000", message)));
            }
        }
    }
    match user.is_empty() {
        true => Ok(Err(ErrorResponse::fatal("28000", "the startup message has no user"))),
        false => Ok(Ok((user, settings))),
    }
}
