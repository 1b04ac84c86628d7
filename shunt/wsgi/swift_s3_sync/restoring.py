"""Writes archived objects back: the shunt says request by request what to ask Swift, below the authentication.

Only requests of jobs that the shunt itself announced are run, each job by one thread, and few jobs at a time.
"""

import _thread
import base64
import binascii
import json
import re
import threading

from swift_s3_sync.connection import BodyReader, BrokenBody, ShuntAway
from swift_s3_sync.messages import call, own_environment, split_target

#: Jobs at a time in one proxy process. The shunt has a lower bound of its own for all of them.
MAX_JOBS = 16
#: What the shunt may learn of an answer's body.
MAX_BODY = 1 << 20
#: Requests of one job: more than the segments of the largest manifest.
MAX_REQUESTS = 110000
METHODS = frozenset(("GET", "HEAD", "PUT", "DELETE"))
JOB = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
TARGET = re.compile(r"/v1/[!-~]+\Z")
#: Of Swift's answers, what the shunt needs to know.
REPORTED = ("etag", "content-length", "content-type", "last-modified", "x-timestamp", "x-object-manifest",
            "x-static-large-object", "x-storage-policy", "x-versions-location", "x-history-location", "x-versions-enabled")
REPORTED_PREFIXES = ("x-backend-", "x-object-sysmeta-", "x-container-")


class Restores:
    """Runs jobs."""

    def __init__(self, app, client, logger, spawn=None):
        self.app = app
        self.client = client
        self.logger = logger
        # eventlet's patching replaces this function, so that a thread is a green one.
        self.spawn = spawn or (lambda function, *arguments: _thread.start_new_thread(function, arguments))
        self.lock = threading.Lock()
        self.running = 0

    def start(self, job, env):
        """Begins a job; without a free place nothing is restored, and the shunt sees that nobody comes."""
        if not JOB.match(job):
            return
        with self.lock:
            if self.running >= MAX_JOBS:
                return
            self.running += 1
        try:
            self.spawn(self.run, job, dict(env))
        except Exception:
            self.leave()
            raise

    def leave(self):
        with self.lock:
            self.running -= 1

    def run(self, job, env):
        try:
            report, body = [], b""
            for _ in range(MAX_REQUESTS):
                answer = self.client.request("POST", "/shunt/v1/restore/" + job, report, body)
                try:
                    if answer.status == 202:
                        # Nothing yet.
                        report, body = [], b""
                        continue
                    if answer.status != 200:
                        return
                    report, body = self.one(answer, env)
                finally:
                    answer.close()
        except (ShuntAway, OSError, ValueError) as error:
            self.logger.warning("restore given up: %s", error)
        except Exception:
            self.logger.exception("restore given up")
        finally:
            self.leave()

    def one(self, answer, env):
        """Runs one request; its status and headers for the shunt, and its body."""
        method, target, headers = parse(answer.header("x-shunt-request") or "")
        path, query = split_target(target)
        reader = BodyReader(answer)
        fresh = own_environment(env, method, path, query, headers, reader, answer.length or 0, "SHUNT")
        if answer.length is None:
            del fresh["CONTENT_LENGTH"]
            fresh["HTTP_TRANSFER_ENCODING"] = "chunked"
        try:
            response = call(self.app, fresh)
            body = b"" if method == "HEAD" else response.read(MAX_BODY) or b""
            response.close()
        except BrokenBody:
            return report(499, []), b""
        if reader.broken:
            return report(499, []), b""
        # What Swift did not want must not be taken for the next answer.
        return report(response.status, response.headers), body


def parse(text):
    """`(method, target, headers)` of a request that the shunt wants; a ValueError when it is none."""
    try:
        wanted = json.loads(base64.b64decode(text.encode("latin-1"), validate=True))
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("the shunt's request is not base64") from error
    if not isinstance(wanted, dict):
        raise ValueError("the shunt's request is not an object")
    method, target, headers = wanted.get("method"), wanted.get("path"), wanted.get("headers")
    if method not in METHODS or not isinstance(target, str) or not TARGET.match(target):
        raise ValueError("the shunt wants %r of %r" % (method, target))
    if not isinstance(headers, list) or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
            for pair in headers):
        raise ValueError("the shunt's request has wrong headers")
    if method == "DELETE" and not any(name.lower() == "x-timestamp" for name, _ in headers):
        # A dated one takes back what the same job wrote, and nothing newer.
        raise ValueError("the shunt wants an undated DELETE")
    return method, target, [(name, value.encode("utf-8").decode("latin-1")) for name, value in headers]


def report(status, headers):
    pairs = [[name, value.encode("latin-1").decode("utf-8", "replace")] for name, value in headers
             if name.lower() in REPORTED or name.lower().startswith(REPORTED_PREFIXES)]
    text = base64.b64encode(json.dumps(pairs).encode("ascii")).decode("ascii")
    return [("X-Shunt-Status", str(status)), ("X-Shunt-Headers", text)]
