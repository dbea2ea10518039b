//! Frames of the wire protocol, within bounds, and the messages that the emulator reads from them.
//!
//! `postgres-protocol` encodes messages, but does not parse messages of clients. They are parsed here, without access beyond the end of
//! a frame.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Size of the tag and the length before the body, in bytes.
const HEADER: usize = 5;
const READ_BYTES: usize = 64 * 1024;
/// Size of the output buffer at which it is flushed.
const FLUSH_BYTES: usize = 32 * 1024;

/// Maximum length of the name of a statement or portal, in bytes: that of a name in Postgres.
const MAX_NAME: usize = 63;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("a message has more than {0} bytes")]
    TooLarge(usize),
    #[error("a message is malformed")]
    Malformed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message with its tag and length.
#[derive(Debug, Clone)]
pub(crate) struct Frame(pub(crate) Bytes);

impl Frame {
    pub(crate) fn tag(&self) -> u8 {
        self.0[0]
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A connection that reads and writes frames. It buffers one frame at most, besides what one read returns.
pub(crate) struct Connection<S> {
    pub(crate) stream: S,
    input: BytesMut,
    output: BytesMut,
    max_message: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S, max_message: usize) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), max_message }
    }

    /// Reports whether more input may be buffered.
    pub(crate) fn has_room(&self) -> bool {
        self.input.len() < self.max_message
    }

    /// Reads available input into the buffer. Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`WireError::Closed`] at the end of the stream.
    pub(crate) async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(READ_BYTES);
        match (&mut self.stream).take(READ_BYTES as u64).read_buf(&mut self.input).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// Takes a frame from the buffer, if it is complete.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(length) = self.input.get(1..HEADER) else { return Ok(None) };
        let length = i32::from_be_bytes(length.try_into().map_err(|_| WireError::Malformed)?);
        let length = usize::try_from(length).ok().filter(|length| *length >= 4).ok_or(WireError::Malformed)?;
        if length > self.max_message {
            return Err(WireError::TooLarge(self.max_message));
        }
        if self.input.len() <= length {
            return Ok(None);
        }
        Ok(Some(Frame(self.input.split_to(length + 1).freeze())))
    }

    /// Reads a frame. Cancel-safe.
    pub(crate) async fn read_frame(&mut self) -> Result<Frame, WireError> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Reads the body of a message without a tag, such as the startup message.
    pub(crate) async fn read_untagged(&mut self, max: usize) -> Result<Bytes, WireError> {
        loop {
            if let Some(length) = self.input.get(..4) {
                let length = i32::from_be_bytes(length.try_into().map_err(|_| WireError::Malformed)?);
                let length = usize::try_from(length).ok().filter(|length| *length >= 8).ok_or(WireError::Malformed)?;
                if length > max {
                    return Err(WireError::TooLarge(max));
                }
                if self.input.len() >= length {
                    let mut message = self.input.split_to(length);
                    message.advance(4);
                    return Ok(message.freeze());
                }
            }
            self.fill().await?;
        }
    }

    /// Reports whether there is input that was not parsed.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.output.put_slice(bytes);
    }

    /// Appends a message by an encoder of `postgres-protocol`.
    pub(crate) fn encode(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), WireError> {
        Ok(encode(&mut self.output)?)
    }

    /// Flushes the output buffer if it has at least [`FLUSH_BYTES`].
    pub(crate) async fn flush_if_large(&mut self) -> Result<(), WireError> {
        if self.output.len() < FLUSH_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Ends the connection, after the output was sent.
    pub(crate) async fn close(mut self) {
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }
}

/// Reads fields of a message's body.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn int(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into().map_err(|_| WireError::Malformed)?))
    }

    /// Reads a string up to its NUL byte.
    pub(crate) fn string(&mut self) -> Result<&'a str, WireError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(WireError::Malformed)?;
        let text = std::str::from_utf8(self.bytes(end)?).map_err(|_| WireError::Malformed)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// Reads the name of a statement or portal.
    fn name(&mut self) -> Result<&'a str, WireError> {
        self.string().ok().filter(|name| name.len() <= MAX_NAME).ok_or(WireError::Malformed)
    }
}

/// A message of a client, with the fields that the emulator uses. The frame is forwarded to Postgres unchanged.
#[derive(Debug)]
pub(crate) enum ClientMessage<'a> {
    Query(&'a str),
    /// The last field: the types of the parameters, with their count.
    Parse(&'a str, &'a str, &'a [u8]),
    Bind {
        portal: &'a str,
        statement: &'a str,
    },
    Describe,
    Execute(&'a str),
    CloseStatement(&'a str),
    ClosePortal(&'a str),
    Sync,
    Flush,
    Terminate,
    /// A message of `COPY`. Postgres ignores it outside of `COPY`.
    Copy,
}

impl<'a> ClientMessage<'a> {
    pub(crate) fn read(frame: &'a Frame) -> Result<Self, WireError> {
        let mut fields = Fields(frame.body());
        Ok(match frame.tag() {
            b'Q' => Self::Query(fields.string()?),
            b'P' => Self::Parse(fields.name()?, fields.string()?, fields.0),
            b'B' => Self::Bind { portal: fields.name()?, statement: fields.name()? },
            b'E' => Self::Execute(fields.name()?),
            tag @ (b'D' | b'C') => match (tag, fields.byte()?, fields.name()?) {
                (b'D', b'S' | b'P', _) => Self::Describe,
                (b'C', b'S', name) => Self::CloseStatement(name),
                (b'C', b'P', name) => Self::ClosePortal(name),
                _ => return Err(WireError::Malformed),
            },
            b'S' => Self::Sync,
            b'H' => Self::Flush,
            b'X' => Self::Terminate,
            b'd' | b'c' | b'f' => Self::Copy,
            _ => return Err(WireError::Malformed),
        })
    }
}

/// Encodes a message of the server.
pub(crate) fn server_message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        Frame(server_message(tag, body).into())
    }

    #[test]
    fn truncated_and_unknown_messages_are_malformed() {
        for (tag, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"\xff\0"),
            (b'P', b"name\0SELECT"),
            (b'B', b"portal\0"),
            (b'B', b""),
            (b'D', b""),
            (b'D', b"Xname\0"),
            (b'C', b"S"),
            (b'E', b"portal"),
            // Names longer than those of Postgres, which would be kept for each statement and portal.
            (b'P', &[&[b'n'; 64][..], b"\0SELECT 1\0"].concat()),
            (b'B', &[&[b'n'; 64][..], b"\0s\0"].concat()),
            (b'p', b"password\0"),
            (b'F', b"\0\0\0\0"),
            (0, b""),
        ] {
            let read = frame(tag, body);

            assert!(matches!(ClientMessage::read(&read), Err(WireError::Malformed)), "{tag} {body:?}");
        }
        assert!(matches!(
            ClientMessage::read(&frame(b'P', b"s\0SELECT 1\0")),
            Ok(ClientMessage::Parse("s", "SELECT 1", []))
        ));
    }

    #[tokio::test]
    async fn lengths_are_bounded_before_memory_is_reserved() {
        for (length, is_large) in [(i32::MAX, true), (1025, true), (-1, false), (3, false)] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(&[&b"Q"[..], &length.to_be_bytes()].concat()).await.unwrap();
            let mut connection = Connection::new(server, 1024);

            let error = connection.read_frame().await.unwrap_err();

            assert_eq!(matches!(error, WireError::TooLarge(1024)), is_large, "{length}: {error}");
            assert!(connection.input.capacity() <= 2 * READ_BYTES);
        }
    }
}
