"""COPY, and PUT with X-Copy-From, of a source that is archived: by the rules of Swift's own copy middleware."""

from urllib.parse import quote, unquote_to_bytes

from swift_s3_sync.connection import BodyReader
from swift_s3_sync.messages import (
    Response, call, for_client, quote_path, set_header, status_line, sub_environment, without_signature)

#: What a copy takes along, beside the user's metadata.
COPIED = frozenset((
    "cache-control", "content-disposition", "content-encoding", "content-language", "expires", "x-robots-tag",
    "x-delete-at"))
#: Swift's default; the cluster's own is asked for where Swift is importable.
MAX_FILE_SIZE = 5368709122
TRUE = frozenset(("true", "1", "yes", "on", "t", "y"))


class Copy:
    """Where a copy comes from and goes to."""

    def __init__(self, request, source, destination):
        self.request = request
        self.source = source
        self.account, self.container = (part.encode("latin-1").decode("utf-8") for part in source[:2])
        self.destination = destination

    @classmethod
    def of(cls, request):
        """None for what is no copy, or is one that Swift will refuse."""
        try:
            if request.method == "PUT" and request.header("x-copy-from"):
                return cls.from_put(request)
            if request.method == "COPY":
                return cls.from_copy(request)
        except (ValueError, UnicodeError):
            pass
        return None

    @classmethod
    def from_put(cls, request):
        account = request.path.split("/", 4)[2]
        if request.header("x-copy-from-account"):
            account = one_name(request.header("x-copy-from-account"))
        return cls(request, (account,) + two_names(request.header("x-copy-from")), request.path)

    @classmethod
    def from_copy(cls, request):
        _, version, account, container, name = request.path.split("/", 4)
        target = account
        if request.header("destination-account"):
            target = one_name(request.header("destination-account"))
        destination = "/".join(("", version, target) + two_names(request.header("destination")))
        return cls(request, (account, container, name), destination)

    def source_path(self):
        return "/%s/%s" % (self.request.path.split("/", 2)[1], "/".join(self.source))

    def wants_manifest(self):
        return self.request.parameters().get("multipart-manifest") == "get"

    def source_target(self):
        query = "multipart-manifest=get&format=raw" if self.wants_manifest() else ""
        return quote_path(self.source_path()) + ("?" + query if query else "")

    def source_environment(self, method):
        """The client's own request for the source, with the client's own rights."""
        env = sub_environment(self.request.env, method, self.source_path(), self.request.query)
        for name in COPY_HEADERS + ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE",
                                    "HTTP_IF_UNMODIFIED_SINCE", "HTTP_RANGE"):
            env.pop(name, None)
        return env

    def write(self, app, answer, start_response):
        """Writes the copy from the shunt's answer, as the client."""
        try:
            refused = self.refused(answer)
            if refused:
                status, text = refused
                start_response(status_line(status), [
                    ("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", str(len(text)))])
                return [text]
            return self.put(app, answer, start_response)
        finally:
            answer.close()

    def refused(self, answer):
        if self.request.env.get("CONTENT_LENGTH") not in (None, "", "0"):
            return 400, b"Copy requests require a zero byte body\n"
        if answer.length is None or answer.length > max_file_size():
            return 413, b"The source is too large for one object.\n"
        return None

    def put(self, app, answer, start_response):
        request = self.request
        source = for_client(answer.headers)
        reader = BodyReader(answer)
        given = dict((name.lower(), value) for name, value in source)
        env = sub_environment(request.env, "PUT", self.destination, self.destination_query(given), (), reader,
                              answer.length, "SSC")
        env["swift.orig_req_method"] = request.method
        for name in COPY_HEADERS + ("HTTP_RANGE",):
            env.pop(name, None)
        if request.header("x-fresh-metadata").lower() not in TRUE:
            for name, value in source:
                lower = name.lower()
                if lower not in COPIED and not lower.startswith("x-object-meta-"):
                    continue
                if "HTTP_" + name.upper().replace("-", "_") not in env:
                    set_header(env, name, value)
        is_dynamic = self.wants_manifest() and "x-object-manifest" in given
        if is_dynamic:
            env["HTTP_X_OBJECT_MANIFEST"] = given["x-object-manifest"]
        if not request.env.get("CONTENT_TYPE"):
            env["CONTENT_TYPE"] = given.get("content-type", "application/octet-stream")
        if (answer.status == 200 and "x-static-large-object" not in given
                and (is_dynamic or "x-object-manifest" not in given) and given.get("etag")):
            env["HTTP_ETAG"] = given["etag"].strip('"')
        response = call(app, env)
        if reader.broken:
            response.close()
            response = Response(status_line(503), [("Content-Length", "0"), ("Retry-After", "5")], [])
        if 200 <= response.status < 300:
            response.headers += self.copied_headers(env, given)
        return response.send(start_response)

    def destination_query(self, given):
        parts = []
        for part in without_signature(self.request.query).split("&"):
            name = part.partition("=")[0]
            if name == "multipart-manifest" and self.wants_manifest():
                if "x-static-large-object" in given:
                    parts.append("multipart-manifest=put")
            elif part and name != "version-id":
                parts.append(part)
        return "&".join(parts)

    def copied_headers(self, env, given):
        account, rest = self.source[0], "/".join(self.source[1:])
        headers = [("X-Copied-From-Account", quote(account.encode("latin-1"))),
                   ("X-Copied-From", quote(rest.encode("latin-1")))]
        if "last-modified" in given:
            headers.append(("X-Copied-From-Last-Modified", given["last-modified"]))
        for key, value in env.items():
            if key.startswith("HTTP_X_OBJECT_META_") or key == "HTTP_X_DELETE_AT":
                headers.append((key[5:].replace("_", "-").title(), value))
        return headers


COPY_HEADERS = ("HTTP_X_COPY_FROM", "HTTP_X_COPY_FROM_ACCOUNT", "HTTP_DESTINATION", "HTTP_DESTINATION_ACCOUNT")


def one_name(value):
    name = unquote_to_bytes(value.encode("latin-1")).decode("latin-1")
    if not name or "/" in name:
        raise ValueError("not one name")
    return name


def two_names(value):
    path = unquote_to_bytes(value.encode("latin-1")).decode("latin-1")
    container, _, name = path[1:].partition("/") if path.startswith("/") else path.partition("/")
    if not container or not name:
        raise ValueError("not a container and an object")
    return container, name


def max_file_size():
    try:
        from swift.common.constraints import MAX_FILE_SIZE as configured
    except ImportError:
        return MAX_FILE_SIZE
    return configured
