"""HTTP/1.1 to the shunt over a unix socket or a loopback port, with a small pool of idle connections.

The standard library's client is not used: it refuses answers with more than 100 headers, which objects with much metadata
have, and it takes a body without a length that ends early for a whole one.
"""

import re
import socket
import threading
from collections import deque
from urllib.parse import urlsplit

#: One piece of a body.
PIECE = 65536
#: All header lines of an answer together. Swift itself sends at most 126 headers of at most 8 KiB.
MAX_HEAD = 262144
#: Header lines of an answer.
MAX_HEADERS = 300
#: What one chunk may announce. The shunt sends pieces of 64 KiB to 1 MiB.
MAX_CHUNK = 1 << 40
#: Idle connections that are kept: enough for the bursts of one proxy process.
MAX_IDLE = 32

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: |\Z)")
#: Bytes that must not be in a header's value.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class ShuntAway(Exception):
    """The shunt could not be asked, or what it answered is no answer."""


class BrokenBody(OSError):
    """The shunt's body ended before its end. Raised into the server, so that the client's connection breaks visibly."""


class Address:
    """Where the shunt listens: ``unix:///path`` or ``http://127.0.0.1:port``."""

    def __init__(self, text):
        parts = urlsplit(text)
        self.text = text
        self.path = None
        if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
            self.path = parts.path
            self.host = "shunt"
        elif parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/"):
            self.name, self.port = parts.hostname, parts.port
            self.host = parts.netloc
        else:
            raise ValueError(
                "shunt = %s: expected unix:///path/of/the.sock or http://127.0.0.1:port" % text)

    def connect(self, timeout):
        if self.path is None:
            connected = socket.create_connection((self.name, self.port), timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout)
            connected.connect(self.path)
        except BaseException:
            connected.close()
            raise
        return connected


class Client:
    """Sends requests. Any number of threads, green or not, may use it at once."""

    def __init__(self, address, token=None, connect_timeout=2.0, timeout=60.0):
        self.address = address
        self.token = token
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self.idle = deque()
        self.lock = threading.Lock()

    def request(self, method, target, headers=(), body=b"", timeout=None):
        """Sends a request and reads the head of its answer.

        An idle connection may have been closed by the shunt a moment ago; then it is tried once more on a new one. Nothing
        that the shunt does changes twice by that: it has read nothing of a request on a connection it closed.
        """
        lines = list(headers)
        if body or method not in ("GET", "HEAD"):
            lines.append(("Content-Length", str(len(body))))
        head = self.head(method, target, lines)
        wire, fresh = self.take(timeout)
        try:
            wire.send(head + body)
            return wire.answer(method)
        except (OSError, ShuntAway) as error:
            wire.close()
            if fresh or wire.heard or not isinstance(error, (ConnectionError, BrokenBody)):
                raise away(error) from error
        wire = self.connect(timeout)
        try:
            wire.send(head + body)
            return wire.answer(method)
        except (OSError, ShuntAway) as error:
            wire.close()
            raise away(error) from error

    def begin(self, method, target, headers):
        """Sends the head of a request whose body follows; see :class:`Exchange`."""
        head = self.head(method, target, list(headers) + [("Transfer-Encoding", "chunked")])
        wire, fresh = self.take()
        try:
            wire.send(head)
        except OSError as error:
            wire.close()
            if fresh:
                raise away(error) from error
            wire = self.connect()
            try:
                wire.send(head)
            except OSError as second:
                wire.close()
                raise away(second) from second
        return Exchange(wire, method)

    def head(self, method, target, headers):
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: %s" % self.address.host]
        if self.token:
            lines.append("Authorization: Bearer %s" % self.token)
        for name, value in headers:
            if NAME.match(name) and not CONTROL.search(value):
                lines.append("%s: %s" % (name, value))
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def take(self, timeout=None):
        """An idle connection, or a new one, and whether it is new."""
        while True:
            with self.lock:
                wire = self.idle.pop() if self.idle else None
            if wire is None:
                return self.connect(timeout), True
            if wire.is_quiet():
                wire.wait_at_most(timeout or self.timeout)
                return wire, False
            wire.close()

    def connect(self, timeout=None):
        try:
            connected = self.address.connect(min(self.connect_timeout, timeout or self.connect_timeout))
        except OSError as error:
            raise away(error) from error
        connected.settimeout(timeout or self.timeout)
        return Wire(self, connected)

    def put_back(self, wire):
        with self.lock:
            if len(self.idle) < MAX_IDLE:
                self.idle.append(wire)
                return
        wire.close()


def away(error):
    return error if isinstance(error, ShuntAway) else ShuntAway("%s: %s" % (type(error).__name__, error))


class Wire:
    """One connection."""

    def __init__(self, client, connected):
        self.client = client
        self.socket = connected
        self.buffer = b""
        self.heard = False

    def is_quiet(self):
        """True when the other side neither closed it nor sent what nobody asked for."""
        if self.buffer:
            return False
        try:
            self.socket.setblocking(False)
            self.socket.recv(1, socket.MSG_PEEK)
            return False
        except (BlockingIOError, InterruptedError):
            self.heard = False
            return True
        except OSError:
            return False

    def wait_at_most(self, timeout):
        self.socket.settimeout(timeout)

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def more(self):
        data = self.socket.recv(PIECE)
        if not data:
            raise BrokenBody("the shunt closed the connection")
        self.heard = True
        self.buffer += data

    def line(self, limit):
        while b"\n" not in self.buffer:
            if len(self.buffer) > limit:
                raise ShuntAway("a line of the shunt's answer is too long")
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\n")
        if len(line) > limit:
            raise ShuntAway("a line of the shunt's answer is too long")
        return line.rstrip(b"\r")

    def piece(self, most):
        if not self.buffer:
            self.more()
        data, self.buffer = self.buffer[:most], self.buffer[most:]
        return data

    def answer(self, method):
        """Reads the head of an answer, over any number of 1xx ones."""
        for _ in range(10):
            line = self.line(8192)
            found = STATUS_LINE.match(line)
            if not found:
                raise ShuntAway("the shunt's answer begins with %r" % line[:40])
            headers = self.headers()
            status = int(found.group(1))
            if status >= 200:
                return Answer(self, method, status, headers)
        raise ShuntAway("the shunt sent only interim answers")

    def headers(self):
        headers, room = [], MAX_HEAD
        while True:
            line = self.line(room)
            if not line:
                return headers
            room -= len(line)
            name, colon, value = line.decode("latin-1").partition(":")
            value = value.strip(" \t")
            if not colon or not NAME.match(name) or CONTROL.search(value) or len(headers) >= MAX_HEADERS or room < 0:
                raise ShuntAway("the shunt's answer has a wrong header, or too many")
            headers.append((name, value))


class Exchange:
    """A request whose body is still to be sent."""

    def __init__(self, wire, method):
        self.wire = wire
        self.method = method

    def finish(self, pieces):
        """Sends the body and reads the head of the answer."""
        try:
            try:
                for piece in pieces:
                    if piece:
                        self.wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wire.send(b"0\r\n\r\n")
            except ConnectionError:
                # It may have answered early, which says more than that it stopped listening.
                pass
            return self.wire.answer(self.method)
        except (OSError, ShuntAway) as error:
            self.wire.close()
            raise away(error) from error

    def close(self):
        """Gives the request up; the shunt sees that by the connection's end."""
        self.wire.close()


class Answer:
    """Status, headers and the body of one answer, as an iterator of pieces. Close it, read or not."""

    def __init__(self, wire, method, status, headers):
        self.wire = wire
        self.status = status
        self.headers = headers
        self.keep = "close" not in (self.header("connection") or "").lower()
        lengths = {value for name, value in headers if name.lower() == "content-length"}
        encoding = self.header("transfer-encoding")
        self.length = None
        self.left = 0
        self.chunked = False
        self.open = True
        if len(lengths) > 1 or (lengths and encoding is not None):
            raise ShuntAway("the shunt's answer has two lengths")
        if lengths:
            length = lengths.pop()
            if not re.match(r"[0-9]{1,18}\Z", length):
                raise ShuntAway("the shunt's answer has a wrong length")
            self.length = int(length)
        if method == "HEAD" or status in (204, 304):
            self.finish()
        elif encoding is not None:
            if encoding.lower() != "chunked":
                raise ShuntAway("the shunt's answer has an unknown encoding")
            self.chunked = True
        elif self.length is None:
            # It would end where the connection ends, for whatever reason that may be.
            raise ShuntAway("the shunt's answer has no length")
        else:
            self.left = self.length
            if not self.left:
                self.finish()

    def header(self, name):
        """The first value of a header, or None."""
        return next((value for found, value in self.headers if found.lower() == name), None)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.open:
            raise StopIteration
        try:
            if self.chunked and not self.left:
                self.left = self.chunk()
                if not self.left:
                    self.trailers()
                    self.finish()
                    raise StopIteration
            data = self.wire.piece(min(self.left, PIECE))
            self.left -= len(data)
            if not self.left:
                if self.chunked:
                    if self.wire.line(2):
                        raise BrokenBody("a chunk of the shunt's body does not end where it says")
                else:
                    self.finish()
            return data
        except (OSError, ShuntAway) as error:
            self.close()
            if isinstance(error, BrokenBody):
                raise
            raise BrokenBody("the shunt's body broke: %s" % error) from error

    def chunk(self):
        size = self.wire.line(1024).split(b";")[0].strip()
        if not re.match(rb"[0-9A-Fa-f]{1,11}\Z", size) or int(size, 16) > MAX_CHUNK:
            raise BrokenBody("the shunt's body has a wrong chunk")
        return int(size, 16)

    def trailers(self):
        for _ in range(MAX_HEADERS):
            if not self.wire.line(8192):
                return
        raise BrokenBody("the shunt's body has too many trailers")

    def read(self, limit):
        """The whole body, at most `limit` bytes."""
        pieces, size = [], 0
        for piece in self:
            size += len(piece)
            if size > limit:
                self.close()
                raise ShuntAway("the shunt's answer is too large")
            pieces.append(piece)
        return b"".join(pieces)

    def finish(self):
        self.open = False
        wire, self.wire = self.wire, None
        if self.keep:
            wire.client.put_back(wire)
        else:
            wire.close()

    def close(self):
        """Ends the transfer. A body that was not read to its end costs the connection."""
        if self.open:
            self.open = False
            self.wire.close()
            self.wire = None


class BodyReader:
    """An answer's body as a file, for the body of a request to Swift."""

    def __init__(self, answer):
        self.answer = answer
        self.buffer = b""
        self.broken = False

    def read(self, size=-1):
        pieces = []
        while size < 0 or size > 0:
            if not self.buffer:
                try:
                    self.buffer = next(self.answer)
                except StopIteration:
                    break
                except BrokenBody:
                    self.broken = True
                    raise
            piece = self.buffer if size < 0 else self.buffer[:size]
            self.buffer = self.buffer[len(piece):]
            pieces.append(piece)
            # A short read is taken for the end by those who want all of it, as SLO wants a manifest.
            if size >= 0:
                size -= len(piece)
        return b"".join(pieces)

    def readline(self, size=-1):
        raise OSError("a body is read in pieces")

    def __iter__(self):
        return iter(lambda: self.read(PIECE), b"")
