//! Message exchanges with Postgres, and error responses to the client.

use bytes::BytesMut;
use postgres_protocol::{IsNull, message::frontend};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{OWN, Session};
use crate::{
    error_response::{ErrorResponse, PostgresError},
    wire::{Frame, WireError},
};

/// The end of an exchange with Postgres.
pub(super) enum Reply {
    /// The last message, which was not forwarded.
    Done(Frame),
    /// The error, as it is sent to the client.
    Failed(Vec<u8>),
}

impl<C: AsyncRead + AsyncWrite + Unpin> Session<C> {
    /// Forwards a message to Postgres, and the reply to the client.
    pub(super) async fn relay(&mut self, frame: &Frame, until: &[u8]) -> Result<(), WireError> {
        self.backend.push(&frame.0);
        if let Some(done) = self.exchange_or_report(until).await? {
            self.client.push(&done.0);
        }
        Ok(())
    }

    /// Sends the buffered messages to Postgres. Returns the last message of the reply, or `None` after an error, which is reported to
    /// the client.
    pub(super) async fn exchange_or_report(&mut self, until: &[u8]) -> Result<Option<Frame>, WireError> {
        match self.exchange(until, true).await? {
            Reply::Done(frame) => Ok(Some(frame)),
            Reply::Failed(error) => {
                self.report(&error);
                Ok(None)
            }
        }
    }

    /// Rejects a statement, and fails the transaction in Postgres.
    pub(super) async fn reject(&mut self, error: &ErrorResponse) -> Result<(), WireError> {
        self.fail_backend().await?;
        self.report(&error.encode());
        Ok(())
    }

    /// Fails the transaction in Postgres, by a statement that it cannot parse.
    pub(super) async fn fail_backend(&mut self) -> Result<(), WireError> {
        self.backend.encode(|buffer| frontend::parse(OWN, "!", [], buffer))?;
        self.exchange(b"1", false).await?;
        Ok(())
    }

    /// Sends an error response, after which messages are ignored until the client synchronizes.
    pub(super) fn report(&mut self, error: &[u8]) {
        self.client.push(error);
        self.is_skipping = true;
        self.transaction.has_failed = self.transaction.is_explicit;
    }

    pub(super) fn bind_unnamed(&mut self, name: &str) -> Result<(), WireError> {
        let bind = |buffer: &mut BytesMut| {
            frontend::bind(name, name, [], [(); 0], |(), _| Ok(IsNull::Yes), [], buffer)
                .map_err(|_| std::io::Error::other("a statement without parameters cannot be bound"))
        };
        self.backend.encode(bind)
    }

    /// Sends the buffered messages to Postgres, and forwards the reply up to a message with one of these tags. If the client
    /// disconnects, the session ends.
    pub(super) async fn exchange(&mut self, until: &[u8], is_forwarded: bool) -> Result<Reply, WireError> {
        if until != b"Z" {
            self.backend.encode(|buffer| {
                frontend::flush(buffer);
                Ok(())
            })?;
        }
        self.backend.flush().await?;
        loop {
            let frame = tokio::select! {
                frame = self.backend.read_frame() => frame?,
                filled = self.client.fill(), if self.client.has_room() => {
                    filled?;
                    continue;
                }
            };
            match frame.tag() {
                b'E' => {
                    let error = PostgresError::read(frame.body())?;
                    if error.is_fatal() {
                        self.client.push(&frame.0);
                        self.client.flush().await?;
                        return Err(WireError::Closed);
                    }
                    let translated = error.translate(self.shared.limits.transaction_time);
                    let translated = translated.map(|error| self.shared.injector.mark(error).encode());
                    return Ok(Reply::Failed(translated.unwrap_or_else(|| frame.0.to_vec())));
                }
                tag if until.contains(&tag) => return Ok(Reply::Done(frame)),
                b'S' | b'N' => self.client.push(&frame.0),
                _ if is_forwarded => {
                    self.client.push(&frame.0);
                    self.client.flush_if_large().await?;
                }
                _ => {}
            }
        }
    }
}
