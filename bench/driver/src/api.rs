//! Just enough of the Runtime API, with as little of its own cost as can be: blocking sockets, no threads.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::poll::{PollFd, PollFlags, poll};

/// A function that says nothing for this long has failed.
const PATIENCE_MS: u16 = 60_000;

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

    /// Reads one whole request, on whichever connection it comes; the request, and on which. Sleeps until there is
    /// something to read: the function needs the core.
    fn read_request(&mut self) -> anyhow::Result<(usize, String)> {
        loop {
            let readable = self.wait()?;
            if readable[0] {
                let (connection, _) = self.listener.accept()?;
                connection.set_nodelay(true)?;
                self.connections.push(connection);
            }
            for index in 0..readable.len() - 1 {
                if readable[index + 1] && Some(index) != self.asking {
                    return Ok((index, self.read_from(index)?));
                }
            }
        }
    }

    /// Which can be read: the listener, then each connection.
    fn wait(&self) -> anyhow::Result<Vec<bool>> {
        let sockets = std::iter::once(self.listener.as_fd()).chain(self.connections.iter().map(AsFd::as_fd));
        let mut polled: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        if let Some(asking) = self.asking {
            // Nothing is expected there, and its end would be noticed when the event is written.
            polled[asking + 1].set_events(PollFlags::empty());
        }
        let ready = poll(&mut polled, PATIENCE_MS)?;
        ensure!(ready > 0, "the function has said nothing for {PATIENCE_MS} ms");
        Ok(polled.iter().map(|socket| socket.any().unwrap_or(false)).collect())
    }

    fn read_from(&mut self, index: usize) -> anyhow::Result<String> {
        let mut filled = 0;
        loop {
            let read = self.connections[index].read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "the function has closed its connection");
            self.last_read = Instant::now();
            filled += read;
            let bytes = &self.buffer[..filled];
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let is_whole = match length {
                    Some(length) => filled >= end + 4 + length,
                    None => !head.contains("transfer-encoding: chunked") || bytes.ends_with(b"0\r\n\r\n"),
                };
                if is_whole {
                    return Ok(String::from_utf8_lossy(bytes).into_owned());
                }
            }
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
        }
    }
}
