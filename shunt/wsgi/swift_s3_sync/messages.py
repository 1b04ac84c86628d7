"""WSGI and HTTP: what is taken from a client's request, what is handed to the client, and sub-requests.

Text is WSGI's: bytes as Latin-1. Names from paths are UTF-8, decoded.
"""

from http.client import responses
from io import BytesIO
from itertools import chain
from urllib.parse import parse_qsl, quote, unquote_to_bytes

#: Of an answer that may be needed later only this much is kept. Swift's error texts have some hundred bytes.
MAX_HELD = 65536

HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade"))
#: Set by Swift above this filter for every answer.
SET_ABOVE = frozenset(("date", "server", "x-trans-id", "x-openstack-request-id", "set-cookie"))
#: Beginnings of headers that no client may see. The gatekeeper removes most of them; it need not be the only one.
INTERNAL = ("x-shunt-", "x-backend-", "x-object-sysmeta-", "x-object-transient-sysmeta-", "x-container-sysmeta-",
            "x-account-sysmeta-")

#: Headers of clients that a question about an object or container needs.
ASKED = ("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "accept")
#: And those by which a POST changes an object.
CHANGED = ("content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires",
           "x-robots-tag", "x-delete-at", "x-delete-after")
CHANGED_PREFIXES = ("x-object-meta-", "x-remove-object-meta-")
#: W3C trace context: the shunt's work is part of the trace that the client's request belongs to.
TRACED = ("traceparent", "tracestate")
#: Our own headers, such as the one that asks for a restore of a cold object.
OWN_PREFIX = "x-cloud-sync-"

#: Everything that may stand in a query as it is.
QUERY_SAFE = "/?:@!$&'()*+,;=-._~%"


class Request:
    """What is asked, taken before anything below can change the environment."""

    def __init__(self, env):
        self.env = env
        self.method = env.get("REQUEST_METHOD", "")
        self.path = env.get("PATH_INFO", "")
        self.query = env.get("QUERY_STRING", "") or ""
        self.account = self.container = self.object = None
        parts = self.path.split("/", 4)
        if len(parts) < 4 or parts[0] or parts[1] not in ("v1", "v1.0"):
            return
        try:
            names = [part.encode("latin-1").decode("utf-8") for part in parts[2:]]
        except (UnicodeDecodeError, UnicodeEncodeError):
            return
        if names[0] and names[1]:
            self.account, self.container = names[0], names[1]
            self.object = names[2] if len(names) > 2 and names[2] else None

    def header(self, name):
        return self.env.get("HTTP_" + name.upper().replace("-", "_"), "")

    def parameters(self):
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def target(self, query=None):
        """The path and the query, percent-encoded."""
        query = self.query if query is None else query
        path = quote_path(self.path)
        return "%s?%s" % (path, quote(query.encode("latin-1"), safe=QUERY_SAFE)) if query else path

    def forwarded(self, changes=False):
        """The client's headers that the shunt needs."""
        headers = []
        for key, value in self.env.items():
            if key.startswith("HTTP_"):
                name = key[5:].replace("_", "-").lower()
            elif key == "CONTENT_TYPE" and changes:
                name = "content-type"
            else:
                continue
            wanted = name in ASKED or name.startswith(OWN_PREFIX)
            if changes:
                wanted = name in CHANGED or name.startswith(CHANGED_PREFIXES) or name.startswith(OWN_PREFIX)
            if (wanted or name in TRACED) and isinstance(value, str):
                headers.append((name, value))
        if self.env.get("swift.trans_id"):
            headers.append(("X-Trans-Id", self.env["swift.trans_id"]))
        return headers


def quote_path(path):
    return quote(path.encode("latin-1"), safe="/~")


def without_signature(query):
    """The query without the parts of a temporary URL, which are nobody's business below."""
    parts = (part for part in query.split("&") if part and not part.lower().startswith("temp_url_"))
    return "&".join(parts)


def with_format_json(query):
    """The query of a listing, asking for JSON."""
    parts = [part for part in query.split("&") if part and part.partition("=")[0] != "format"]
    return "&".join(parts + ["format=json"])


class Response:
    """The answer of what is below: status, headers and an iterator that must be closed."""

    def __init__(self, status, headers, pieces, exc_info=None):
        self.status_line = status
        self.headers = headers
        self.pieces = pieces
        self.exc_info = exc_info
        self.closed = False

    @property
    def status(self):
        return int(self.status_line.split(" ", 1)[0])

    def header(self, name):
        return next((value for found, value in self.headers if found.lower() == name), None)

    def send(self, start_response):
        if self.exc_info:
            start_response(self.status_line, self.headers, self.exc_info)
        else:
            start_response(self.status_line, self.headers)
        return self.pieces

    def read(self, limit):
        """The body, or None when it is longer than `limit`; closes what is below."""
        pieces, size = [], 0
        try:
            for piece in self.pieces:
                size += len(piece)
                if size > limit:
                    return None
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            self.close()

    def hold(self):
        """Reads it to its end, so that it can be sent later and nothing waits below. Only for answers without content."""
        body = self.read(MAX_HELD)
        if body is None:
            body = b""
        if self.header("content-length") is not None and body:
            self.headers = [(name, value) for name, value in self.headers if name.lower() != "content-length"]
            self.headers.append(("Content-Length", str(len(body))))
        self.pieces = [body] if body else []

    def close(self):
        if not self.closed:
            self.closed = True
            close = getattr(self.pieces, "close", None)
            if close:
                close()


def call(app, env):
    """Calls what is below and answers a :class:`Response`."""
    started, written = [], []

    def start_response(status, headers, exc_info=None):
        started[:] = [(status, list(headers), exc_info)]
        return written.append

    pieces = app(env, start_response)
    if not started or written:
        # A generator calls start_response when its first piece is asked for.
        iterator = iter(pieces)
        first = []
        try:
            while not started:
                first.append(next(iterator))
        except StopIteration:
            pass
        pieces = Chained(written + first, iterator, pieces)
    if not started:
        raise RuntimeError("the application below did not start its answer")
    status, headers, exc_info = started[0]
    return Response(status, headers, pieces, exc_info)


class Chained:
    """Some pieces, then an iterator's; closing closes what was behind it."""

    def __init__(self, first, rest, origin):
        self.iterator = chain(first, rest)
        self.origin = origin

    def __iter__(self):
        return self.iterator

    def close(self):
        close = getattr(self.origin, "close", None)
        if close:
            close()


def status_line(status):
    return "%d %s" % (status, responses.get(status, "Unknown"))


def for_client(headers):
    """The headers of an answer of the shunt that go on to the client."""
    named = set()
    for name, value in headers:
        if name.lower() == "connection":
            named.update(part.strip().lower() for part in value.split(","))
    return [
        (name.title(), value) for name, value in headers
        if name.lower() not in HOP_BY_HOP and name.lower() not in SET_ABOVE and name.lower() not in named
        and not name.lower().startswith(INTERNAL)
    ]


def keep_cross_origin(local, headers):
    """Adds what Swift said about browsers of other origins to the headers of an answer that replaces Swift's."""
    exposed = [name.lower() for name, _ in headers if name.lower().startswith("x-object-meta-")]
    kept = []
    for name, value in local:
        lower = name.lower()
        if lower == "access-control-expose-headers":
            value = ", ".join([value] + exposed) if value else ", ".join(exposed)
        if lower.startswith("access-control-") or lower == "vary":
            kept.append((name, value))
    return headers + kept


def sub_environment(env, method, path, query="", headers=(), body=None, length=0, source=None):
    """The client's environment for a request of our own on behalf of the same client, with the same rights."""
    fresh = dict(env)
    fresh.update({
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "wsgi.input": BytesIO() if body is None else body, "CONTENT_LENGTH": str(length),
    })
    # Swift leaves the access list of the container that it looked at in the environment, and would judge the next one by it.
    for key in ("HTTP_TRANSFER_ENCODING", "RAW_PATH_INFO", "HTTP_EXPECT", "swift.orig_req_method", "swob.ACL"):
        fresh.pop(key, None)
    for name, value in headers:
        set_header(fresh, name, value)
    if source:
        fresh["swift.source"] = source
    return fresh


def own_environment(env, method, path, query, headers, body, length, source):
    """An environment without the client: no authorisation is asked below. Only for what the shunt itself wants."""
    fresh = {
        key: env[key] for key in ("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "HTTP_HOST", "REMOTE_ADDR",
                                  "wsgi.version", "wsgi.url_scheme", "wsgi.errors", "wsgi.multithread",
                                  "wsgi.multiprocess", "wsgi.run_once", "swift.cache", "swift.trans_id")
        if key in env
    }
    fresh["swift.authorize_override"] = True
    return sub_environment(fresh, method, path, query, [("User-Agent", "swift-s3-shunt")] + list(headers), body, length,
                           source)


def set_header(env, name, value):
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = "HTTP_" + key
    env[key] = value


def split_target(target):
    """A percent-encoded path with a query as (PATH_INFO, QUERY_STRING)."""
    path, _, query = target.partition("?")
    return unquote_to_bytes(path).decode("latin-1"), query
