//! Connections to the Postgres that stores the data.

use std::{io, time::Duration};

use anyhow::Context;
use percent_encoding::percent_decode_str;
use postgres_protocol::{
    authentication::{md5_hash, sasl},
    message::frontend,
};
use tokio::net::TcpStream;
use url::Url;

use crate::{
    error_response::{ErrorResponse, PostgresError},
    wire::{Connection, Fields, Frame, WireError},
};

/// A row of Postgres may be larger than one of DSQL.
const MAX_MESSAGE: usize = 16 << 20;

/// Address of Postgres, and credentials of its superuser.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
    transaction_time: Duration,
}

/// Why Postgres is not available to a client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("Postgres rejected the connection: {}", .0.message)]
    Rejected(PostgresError, Frame),
    #[error("the connection to Postgres failed: {0}")]
    Wire(#[from] WireError),
}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        Self::Wire(error.into())
    }
}

impl BackendError {
    /// Returns the message for the client.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Rejected(_, frame) => frame.0.to_vec(),
            Self::Wire(_) => ErrorResponse::fatal("57P03", self.to_string()).encode(),
        }
    }
}

impl Backend {
    pub(crate) fn parse(url: &str, transaction_time: Duration) -> anyhow::Result<Self> {
        let parsed =
            Url::parse(url).ok().context("the backend's URL is not postgres://user:password@host:port/name")?;
        let decode = |part: &str| percent_decode_str(part).decode_utf8().map(|text| text.into_owned());
        Ok(Self {
            host: parsed.host_str().context("the backend's URL has no host")?.to_owned(),
            port: parsed.port().unwrap_or(5432),
            user: decode(parsed.username())?,
            password: decode(parsed.password().unwrap_or_default())?,
            database: decode(parsed.path().trim_start_matches('/'))?,
            transaction_time,
        })
    }

    /// Opens a session with its own settings and those of a client. Returns it with the messages after authentication.
    pub(crate) async fn connect(
        &self,
        settings: &[(String, String)],
    ) -> Result<(Connection<TcpStream>, Vec<Frame>), BackendError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream, MAX_MESSAGE);
        let time = self.transaction_time.as_millis().to_string();
        let own = [
            ("user", self.user.as_str()),
            ("database", &self.database),
            // One isolation level: snapshot isolation.
            ("default_transaction_isolation", "repeatable read"),
            ("statement_timeout", &time),
            // A client that disconnects ends its session, which may hold locks. DSQL has no locks.
            ("client_connection_check_interval", "200ms"),
        ];
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let parameters: Vec<_> = own.into_iter().chain(settings).collect();
        connection.encode(|buffer| frontend::startup_message(parameters, buffer))?;
        connection.flush().await?;
        self.authenticate(&mut connection).await?;
        let mut greeting = Vec::new();
        loop {
            let frame = next(&mut connection).await?;
            let is_ready = frame.tag() == b'Z';
            greeting.push(frame);
            if is_ready {
                return Ok((connection, greeting));
            }
        }
    }

    async fn authenticate(&self, connection: &mut Connection<TcpStream>) -> Result<(), BackendError> {
        let mut scram = None;
        loop {
            let frame = next(connection).await?;
            let mut fields = Fields(frame.body());
            match (frame.tag(), fields.int()?) {
                (b'R', 0) => return Ok(()),
                (b'R', 3) => {
                    connection.encode(|buffer| frontend::password_message(self.password.as_bytes(), buffer))?;
                }
                (b'R', 5) => {
                    let salt = fields.bytes(4)?.try_into().map_err(|_| WireError::Malformed)?;
                    let hash = md5_hash(self.user.as_bytes(), self.password.as_bytes(), salt);
                    connection.encode(|buffer| frontend::password_message(hash.as_bytes(), buffer))?;
                }
                (b'R', 10) => {
                    let binding = sasl::ChannelBinding::unsupported();
                    let own = scram.insert(sasl::ScramSha256::new(self.password.as_bytes(), binding));
                    connection
                        .encode(|buffer| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, own.message(), buffer))?;
                }
                (b'R', 11) => {
                    let own = scram.as_mut().ok_or(WireError::Malformed)?;
                    own.update(fields.0)?;
                    connection.encode(|buffer| frontend::sasl_response(own.message(), buffer))?;
                }
                (b'R', 12) => scram.as_mut().ok_or(WireError::Malformed)?.finish(fields.0)?,
                _ => return Err(WireError::Malformed.into()),
            }
            connection.flush().await?;
        }
    }
}

/// Executes the emulator's own statements. Returns the first column of their rows.
pub(crate) async fn execute(connection: &mut Connection<TcpStream>, sql: &str) -> Result<Vec<String>, BackendError> {
    connection.encode(|buffer| frontend::query(sql, buffer))?;
    connection.flush().await?;
    let (mut values, mut failure) = (Vec::new(), None);
    loop {
        let frame = connection.read_frame().await?;
        match frame.tag() {
            b'D' => {
                let mut fields = Fields(frame.body());
                fields.bytes(2)?;
                let length = fields.int()?;
                let value = fields.bytes(usize::try_from(length).unwrap_or_default())?;
                values.push(String::from_utf8_lossy(value).into_owned());
            }
            b'E' => {
                let error = PostgresError::read(frame.body())?;
                let failed = BackendError::Rejected(error, frame);
                if matches!(&failed, BackendError::Rejected(error, _) if error.is_fatal()) {
                    return Err(failed);
                }
                failure.get_or_insert(failed);
            }
            b'Z' => return failure.map_or(Ok(values), Err),
            _ => {}
        }
    }
}

/// Reads a message of the startup; an error response is an error.
async fn next(connection: &mut Connection<TcpStream>) -> Result<Frame, BackendError> {
    let frame = connection.read_frame().await?;
    match frame.tag() {
        b'E' => Err(BackendError::Rejected(PostgresError::read(frame.body())?, frame)),
        _ => Ok(frame),
    }
}
