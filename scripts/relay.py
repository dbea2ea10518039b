"""A server's address on loopback that stays while the server behind it is another, is away, is busy, or breaks off."""

import asyncio
import collections
import contextlib
import random
import re
import socket
import struct

# Longer than any answer that is looked for.
OVERLAP = 256
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
PASS, BUSY_MODE, STALL = "pass", "busy", "stall"


class Relay:
    """Passes connections on to `target`, a port. `answered` counts what the server has answered, by the group of
    `pattern`."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern)
        self.answered = collections.Counter()
        self.target = None
        self.mode = PASS
        # Answers that are still to be broken off in the middle.
        self.cuts = 0
        self.cut = 0
        self.port = None
        self.server = None
        self.connections = set()
        self.tasks = set()

    async def listen(self):
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", self.port or 0, backlog=512)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def refuse(self):
        """Nothing listens any more, and nothing is open."""
        self.server.close()
        self.drop()

    def drop(self):
        """Breaks off every connection, at random in the one way or the other."""
        for writer in list(self.connections):
            if random.random() < 0.5:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def close(self):
        await self.refuse()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def connected(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        self.connections.add(writer)
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.connections.discard(writer)
            self.tasks.discard(task)

    async def serve(self, reader, writer):
        if self.mode == STALL:
            # Until it is dropped.
            while await reader.read(65536):
                pass
            return
        if self.mode == BUSY_MODE:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(BUSY)
            await writer.drain()
            writer.write_eof()
            await reader.read()
            return
        upstream, away = await asyncio.open_connection("127.0.0.1", self.target)
        up = asyncio.create_task(self.up(reader, away))
        try:
            await self.down(upstream, writer)
        finally:
            up.cancel()
            away.transport.abort()

    async def up(self, reader, away):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                away.write(data)
                await away.drain()
            away.write_eof()

    async def down(self, upstream, writer):
        seen = b""
        while data := await upstream.read(65536):
            begins = len(seen)
            seen += data
            for found in self.pattern.finditer(seen):
                if found.end() > begins:
                    self.answered[found[1].decode()] += 1
            seen = seen[-OVERLAP:]
            if self.cuts:
                self.cuts -= 1
                self.cut += 1
                writer.write(data[: len(data) // 2])
                await writer.drain()
                return
            writer.write(data)
            await writer.drain()
