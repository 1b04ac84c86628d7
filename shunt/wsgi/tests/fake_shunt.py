"""A shunt that answers from a script, over a real socket, and a Swift below the filter that does the same."""

import os
import socket
import tempfile
import threading

from swift_s3_sync.cloud_shunt import CloudShunt


class FakeShunt:
    """`answers` are functions of a request that give bytes, or None to close; the last one stays."""

    def __init__(self, containers=b'{"generation": 1, "containers": [["AUTH_a", "c", {"writes": true}], '
                                  b'["AUTH_b", "/*", {}]]}'):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s")
        self.containers = containers
        self.answers = []
        self.requests = []
        self.connections = 0
        self.seen = threading.Condition()
        self.listen()

    def listen(self):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(16)
        threading.Thread(target=self.accept, args=(self.server,), daemon=True).start()

    def stop(self):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        os.unlink(self.path)

    def accept(self, server):
        while True:
            try:
                connected, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connected,), daemon=True).start()

    def serve(self, connected):
        with connected, connected.makefile("rb") as file:
            while True:
                asked = read_request(file)
                if asked is None:
                    return
                with self.seen:
                    self.requests.append(asked)
                    self.seen.notify_all()
                if asked["target"] == "/shunt/v1/containers":
                    answer = reply(200, self.containers, ETag='"1"')
                    if asked["headers"].get("if-none-match") == '"1"':
                        answer = b"HTTP/1.1 304 Not Modified\r\n\r\n"
                else:
                    make = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
                    answer = make(asked)
                if answer is None:
                    return
                try:
                    connected.sendall(answer)
                except OSError:
                    return
                if b"Connection: close" in answer.split(b"\r\n\r\n")[0]:
                    return

    def asked(self):
        """Requests about objects and containers."""
        return [request for request in self.requests if not request["target"].startswith("/shunt/")]

    def wait(self, condition):
        with self.seen:
            for _ in range(500):
                # Not everything that is waited for is a request.
                if self.seen.wait_for(condition, 0.02):
                    return
            raise AssertionError(self.requests)


def read_request(file):
    try:
        line = file.readline().decode("latin-1").split()
        if not line:
            return None
        headers = {}
        while True:
            header = file.readline().decode("latin-1").strip()
            if not header:
                break
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(file.readline() or b"x", 16)
                piece = file.read(size + 2)[:-2]
                if not size:
                    break
                body += piece
        elif "content-length" in headers:
            body = file.read(int(headers["content-length"]))
        return {"method": line[0], "target": line[1], "headers": headers, "body": body}
    except (OSError, ValueError):
        return None


def reply(status, body=b"", outcome="answer", length=None, **headers):
    lines = ["HTTP/1.1 %d Whatever" % status, "Content-Length: %d" % (len(body) if length is None else length)]
    if outcome:
        lines.append("X-Shunt-Outcome: " + outcome)
    lines += ["%s: %s" % (name.replace("_", "-"), value) for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def always(answer):
    return lambda request: answer


PASS = always(reply(200, outcome="pass"))


class Pieces:
    """A body that knows whether it was closed."""

    def __init__(self, pieces):
        self.pieces = iter(pieces)
        self.closed = False

    def __iter__(self):
        return self.pieces

    def close(self):
        self.closed = True


class FakeSwift:
    """Answers by path and method, 404 otherwise; keeps what it was asked and the bodies it gave."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        self.bodies = []
        self.uploads = []

    def on(self, method, path, status, body=b"", headers=()):
        self.answers[method, path] = (status, body, list(headers))

    def __call__(self, env, start_response):
        self.requests.append(dict(env))
        method, path = env["REQUEST_METHOD"], env["PATH_INFO"]
        if method in ("PUT", "POST"):
            self.uploads.append((path, env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0) or 0)
                                 if not hasattr(env["wsgi.input"], "answer") else b"".join(env["wsgi.input"])))
        status, body, headers = self.answers.get((method, path), (
            404, b"" if method == "HEAD" else b"<html>local 404</html>", [("X-Local", "yes")]))
        start_response("%d Local" % status, headers + [("Content-Length", str(len(body)))])
        pieces = Pieces([body] if body else [])
        self.bodies.append(pieces)
        return pieces


class Logger:
    def __init__(self):
        self.lines = []

    def warning(self, message, *arguments):
        self.lines.append(message % arguments)

    info = exception = warning


def make_filter(shunt, swift, **conf):
    logger = Logger()
    conf.setdefault("containers_file", "")
    made = CloudShunt(swift, dict(conf, shunt="unix://" + shunt.path, timeout="5"), logger)
    made.account_info = made.container_info = made.listing_limit = None
    return made


class Got:
    """What a client gets."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name):
        values = [value for found, value in self.headers if found.lower() == name.lower()]
        assert len(values) < 2, (name, values)
        return values[0] if values else None


def ask(application, method, path, query="", body=b"", **headers):
    import io
    env = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "", "SERVER_NAME": "s",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0), "CONTENT_LENGTH": str(len(body)), "swift.trans_id": "tx1", "swift.authorize": "the client's",
    }
    for name, value in headers.items():
        key = name.upper()
        env[key if key in ("CONTENT_TYPE",) else "HTTP_" + key] = value
    started = []

    def start_response(status, headers, exc_info=None):
        started[:] = [status, headers]

    pieces = application(env, start_response)
    try:
        body = b"".join(pieces)
    finally:
        close = getattr(pieces, "close", None)
        if close:
            close()
    return Got(int(started[0].split()[0]), started[1], body)
