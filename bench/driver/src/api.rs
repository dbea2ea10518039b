//! Just enough of the Runtime API, with as little of its own cost as can be: blocking sockets, no threads.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// A function that says nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one connection is listened to before the others are.
const TURN: Duration = Duration::from_millis(50);

pub(crate) struct RuntimeApi {
    listener: TcpListener,
    connections: Vec<TcpStream>,
    /// The connection on which the function asks for an invocation.
    asking: Option<usize>,
    buffer: Vec<u8>,
    /// When the last request was complete.
    last_read: Instant,
}

impl RuntimeApi {
    pub(crate) fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            connections: Vec::new(),
            asking: None,
            buffer: vec![0; 1 << 16],
            last_read: Instant::now(),
        })
    }

    pub(crate) fn address(&self) -> anyhow::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// Waits until the function asks for an invocation.
    pub(crate) fn wait_for_question(&mut self) -> anyhow::Result<()> {
        while self.asking.is_none() {
            let (connection, head) = self.read_request()?;
            if head.starts_with("GET ") && head.contains("/runtime/invocation/next") {
                self.asking = Some(connection);
            } else {
                bail!("expected a question for the next invocation, got {}", head.lines().next().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Hands out an event and waits for the answer: the time between, and the answer.
    pub(crate) fn call(&mut self, event: &str) -> anyhow::Result<(Duration, String)> {
        self.wait_for_question()?;
        let asking = self.asking.take().context("the function has asked")?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: req\r\n\
             lambda-runtime-deadline-ms: 99999999999999\r\nlambda-runtime-trace-id: Root=1-2-3\r\n\
             lambda-runtime-invoked-function-arn: arn\r\ncontent-length: {}\r\n\r\n",
            event.len()
        );
        let response = [head.as_bytes(), event.as_bytes()].concat();
        let begin = Instant::now();
        self.connections[asking].write_all(&response)?;
        let (connection, request) = self.read_request()?;
        let elapsed = self.last_read.duration_since(begin);
        ensure!(
            request.contains("/response "),
            "expected an answer, got {}",
            request.lines().next().unwrap_or_default()
        );
        self.connections[connection].write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
        Ok((elapsed, request))
    }

    /// Reads one whole request, on whichever connection it comes; the request, and on which.
    fn read_request(&mut self) -> anyhow::Result<(usize, String)> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match self.listener.accept() {
                Ok((connection, _)) => {
                    connection.set_nonblocking(false)?;
                    connection.set_nodelay(true)?;
                    connection.set_read_timeout(Some(TURN))?;
                    self.connections.push(connection);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            for index in (0..self.connections.len()).rev() {
                if Some(index) != self.asking
                    && let Some(request) = self.read_from(index)?
                {
                    return Ok((index, request));
                }
            }
        }
        bail!("the function has said nothing for {} s", PATIENCE.as_secs())
    }

    fn read_from(&mut self, index: usize) -> anyhow::Result<Option<String>> {
        let mut filled = 0;
        loop {
            let read = match self.connections[index].read(&mut self.buffer[filled..]) {
                Ok(0) => bail!("the function has closed its connection"),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && filled == 0 => {
                    return Ok(None);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(error) => return Err(error.into()),
            };
            filled += read;
            let bytes = &self.buffer[..filled];
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let is_whole = match length {
                Some(length) => filled >= end + 4 + length,
                None => !head.contains("transfer-encoding: chunked") || bytes.ends_with(b"0\r\n\r\n"),
            };
            if is_whole {
                self.last_read = Instant::now();
                return Ok(Some(String::from_utf8_lossy(bytes).into_owned()));
            }
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
        }
    }
}
