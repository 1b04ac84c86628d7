"""The paste filter `cloud-shunt`: right behind the authentication, in front of copy, slo and dlo.

Swift is always asked first, and only its own 404 leads to the shunt: who is not allowed to read an object gets Swift's 401
or 403 and nothing is asked about it. What no mapping concerns passes after two look-ups in memory.
"""

import json
import logging
import time

from swift_s3_sync.connection import Address, Client, ShuntAway
from swift_s3_sync.containers import Containers
from swift_s3_sync.copying import Copy
from swift_s3_sync.messages import (
    Request, call, for_client, keep_cross_origin, split_target, status_line, sub_environment, with_format_json,
    without_signature)
from swift_s3_sync.restoring import Restores

DEFAULT_SHUNT = "unix:///run/swift-s3-sync/shunt.sock"
DEFAULT_KEEP = "/var/cache/swift/cloud-shunt.json"
#: Swift's listing_formats reads no page that is longer, and none whose length it does not know.
MAX_PAGE = 64 << 20
#: What a client is told to wait, in seconds, when the shunt is away: it is restarted within that.
RETRY_AFTER = "5"
LOCAL = b"The object is in no archive: it can be read.\n"
AWAY = b"Objects of this container may be archived, and the archive cannot be asked at the moment.\n"
#: Asks the remote to bring an object out of its archive class.
WISH = "X-Cloud-Sync-Restore-Request"
#: Older than anything: a POST with this time changes nothing, whatever is there.
LONG_AGO = "0000000001.00000"
#: One question for each container of segments.
MAX_ROUNDS = 20
#: What is about the object that the client asked for, and nothing else.
CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_RANGE",
              "HTTP_X_COPY_FROM", "HTTP_X_COPY_FROM_ACCOUNT", "HTTP_DESTINATION", "HTTP_DESTINATION_ACCOUNT")
TRUE = frozenset(("true", "1", "yes", "on", "t", "y"))


class CloudShunt:
    """The filter. Its options are in `docs/shunt.md`."""

    def __init__(self, app, conf, logger=None):
        self.app = app
        self.logger = logger or make_logger(conf)
        self.handle_proxyfs = conf.get("handle_proxyfs", "false").strip().lower() in TRUE
        address = Address(conf.get("shunt", DEFAULT_SHUNT).strip())
        token = read_token(conf.get("token_file"))
        if address.path is None and not token:
            raise ValueError("shunt = %s needs a token_file: any user of this machine can reach a port" % address.text)
        self.client = Client(
            address, token, connect_timeout=seconds(conf, "connect_timeout", 2.0),
            timeout=seconds(conf, "timeout", 60.0))
        self.containers = Containers(self.client, self.logger, conf.get("containers_file", DEFAULT_KEEP))
        self.restores = Restores(self.app, self.client, self.logger)
        self.account_info = account_info()
        self.container_info = container_info()
        self.listing_limit = listing_limit()
        self.readers = Readers()

    def __call__(self, env, start_response):
        request = Request(env)
        if request.container is None or env.get("HTTP_X_CLOUD_SYNC_SHUNT_BYPASS"):
            return self.app(env, start_response)
        copy = Copy.of(request) if request.object is not None else None
        if copy is not None:
            options = self.containers.lookup(copy.account, copy.container)
        else:
            options = self.containers.lookup(request.account, request.container)
        if options is None:
            return self.app(env, start_response)
        reads = request.object is not None and request.method in ("GET", "HEAD")
        # Reads ask after a 404 only.
        if not reads and self.is_other_kind(env):
            return self.app(env, start_response)
        # A version that Swift keeps is not what the remote has.
        if request.object is not None and not reads and asks_for_version(request):
            return self.app(env, start_response)
        if copy is not None:
            return self.copy(request, copy, start_response)
        if request.object is None:
            if request.method == "GET" and is_object_listing(request):
                return self.listing(request, start_response)
        elif reads:
            return self.read(request, start_response)
        elif request.method == "POST" and request.header(WISH):
            return self.bring_out(request, start_response)
        elif options.writes and request.method == "DELETE" and not self.keeps_versions(env):
            return self.delete(request, start_response)
        elif options.writes and request.method == "POST":
            return self.post(request, start_response)
        return self.app(env, start_response)

    # Reads

    def read(self, request, start_response):
        env = request.env
        # Swift answers 412 where nothing is, before anybody could say that the remote has it.
        any_version = "*" in request.header("if-match")
        before = dict(env) if any_version else None
        forwarded = request.forwarded()
        local = call(self.app, env)
        if local.status == 412 and any_version:
            local.hold()
            before.pop("HTTP_IF_MATCH")
            again = call(self.app, before)
            again.hold() if again.status == 404 else again.close()
            if again.status != 404:
                return local.send(start_response)
        elif local.status != 404 or asks_for_version(request):
            return local.send(start_response)
        else:
            local.hold()
        return self.missed(request, forwarded, local, start_response)

    def missed(self, request, forwarded, local, start_response):
        """The object is not in Swift, and the client may read it."""
        target = self.missing_target(request, local)
        if target is None or self.is_other_kind(request.env):
            return local.send(start_response)
        headers = forwarded + [("X-Shunt-Step", "miss"), ("X-Shunt-Restores", "yes")] + local_headers(local)
        try:
            answer = self.ask_for(request, request.method, target, headers)
        except ShuntAway as error:
            return self.unavailable(request, error, start_response)
        if answer is None:
            return local.send(start_response)
        job = answer.header("x-shunt-restore")
        if job:
            self.restores.start(job, request.env)
        return self.hand_out(answer, local, start_response)

    def missing_target(self, request, local):
        """What Swift has missed: the object of the path, or where a symbolic link led to, which Swift has asked for with the client's rights. None
        when no mapping concerns that."""
        location = local.header("content-location")
        if location is None:
            return request.target(without_signature(request.query))
        linked = Request({"PATH_INFO": split_target(location)[0], "QUERY_STRING": request.query})
        if linked.object is None or self.containers.lookup(linked.account, linked.container) is None:
            return None
        return linked.target(without_signature(request.query))

    def ask_for(self, request, method, target, headers):
        """As `ask`, about an object. The shunt may want to know first whether the client may read its segments: Swift is asked with the client's
        rights, as it would ask itself."""
        told = {}
        for _ in range(MAX_ROUNDS):
            more = [("X-Shunt-Answers", json.dumps(told))] if told else []
            answer = self.client.request(method, target, headers + more, b"")
            if answer.header("x-shunt-outcome") != "ask":
                return self.judged(answer)
            asked = json.loads(answer.header("x-shunt-ask") or "[]")
            answer.close()
            for question in asked:
                told[question] = self.status_for(request.env, question)
        raise ShuntAway("it wants to know too much")

    def status_for(self, env, question):
        method, _, target = question.partition(" ")
        path, query = split_target(target)
        asking = sub_environment(env, method, path, query, source="CS")
        for name in CONDITIONS:
            asking.pop(name, None)
        answer = call(self.app, asking)
        answer.close()
        return answer.status

    def ask(self, method, target, headers, body=b""):
        """The shunt's answer for the client, or None when Swift's own stands."""
        answer = self.client.request(method, target, headers, body)
        return self.judged(answer)

    @staticmethod
    def judged(answer):
        outcome = answer.header("x-shunt-outcome")
        if outcome == "pass":
            answer.close()
            return None
        if outcome != "answer":
            answer.close()
            raise ShuntAway("status %d without an outcome" % answer.status)
        return answer

    @staticmethod
    def hand_out(answer, local, start_response):
        headers = keep_cross_origin(local.headers if local else [], for_client(answer.headers))
        if answer.status in (204, 304) and answer.length is None:
            # As Swift does; its server would announce chunks otherwise.
            headers.append(("Content-Length", "0"))
        start_response(status_line(answer.status), headers)
        return Body(answer)

    def unavailable(self, request, error, start_response):
        self.logger.warning("shunt not asked: %s", error)
        start_response("503 Service Unavailable", [
            ("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", str(len(AWAY))),
            ("Retry-After", RETRY_AFTER)])
        return [] if request.method == "HEAD" else [AWAY]

    # Listings

    def listing(self, request, start_response):
        env = request.env
        if self.listing_limit and "limit" not in request.parameters():
            # Both sides must mean the same.
            request.query = "&".join(filter(None, (request.query, "limit=%d" % self.listing_limit)))
        # Always JSON: at this place of the pipeline Swift answers nothing else, whatever was asked for. Its listing_formats
        # above makes of it what the client wants, and s3api reads it as it is.
        query = with_format_json(request.query)
        target = request.target(without_signature(query))
        headers = [pair for pair in request.forwarded() if pair[0] != "accept"]
        headers += [("X-Shunt-Step", "listing"), ("X-Shunt-Method", "GET")]
        reader = (env.get("REMOTE_USER"), request.account, request.container)
        if not self.readers.knows(reader):
            # Who may not list must not cause requests that cost money.
            headers.append(("X-Shunt-Waits", "yes"))
        exchange = away = None
        try:
            # First, so that the remote is asked while Swift works.
            exchange = self.client.begin("POST", target, headers)
        except ShuntAway as error:
            away = error
        try:
            env["QUERY_STRING"] = query
            local = call(self.app, env)
            if local.status not in (200, 204):
                return local.send(start_response)
            self.readers.remember(reader)
            if away is not None:
                local.close()
                return self.unavailable(request, away, start_response)
            page = local.read(MAX_PAGE)
            if page is None:
                return self.unavailable(request, ShuntAway("Swift's page is too long"), start_response)
            waiting, exchange = exchange, None
            return self.merged(request, local, page, waiting, start_response)
        finally:
            if exchange is not None:
                exchange.close()

    def merged(self, request, local, page, exchange, start_response):
        try:
            told = exchange.finish([page or b"[]"])
            partial = told.header("x-cloud-sync-listing")
            answer = self.judged(told)
            if answer is None:
                local.pieces = [page]
                if partial:
                    local.headers.append(("X-Cloud-Sync-Listing", partial))
                return local.send(start_response)
            # Whole, because Swift's own middlewares above convert a page only when they know its length; and so that a page
            # that breaks is an error and no short page.
            body = answer.read(MAX_PAGE)
        except (ShuntAway, OSError) as error:
            return self.unavailable(request, error, start_response)
        headers = for_client(answer.headers)
        if 200 <= answer.status < 300:
            given = {name.lower() for name, _ in headers} | {"content-length", "content-type", "etag"}
            headers += [(name, value) for name, value in local.headers if name.lower() not in given]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        headers.append(("Content-Length", str(len(body))))
        start_response(status_line(answer.status), headers)
        return [body]

    # Writes

    def delete(self, request, start_response):
        forwarded = request.forwarded()
        target = request.target(without_signature(request.query))
        token = None
        try:
            answer = self.client.request("DELETE", target, forwarded + [("X-Shunt-Step", "before")])
            token = answer.header("x-shunt-token")
            if token is None:
                answer = self.judged(answer)
                if answer is not None:
                    return self.hand_out(answer, None, start_response)
            else:
                answer.close()
        except ShuntAway as error:
            # Gone here and still there, it would come back with the next GET.
            return self.unavailable(request, error, start_response)
        whole = request.parameters().get("multipart-manifest") == "delete"
        plain = sub_environment(request.env, "DELETE", request.path) if whole else None
        local = call(self.app, request.env)
        if local.status not in (200, 204, 404):
            return local.send(start_response)
        status, body = local.status, None
        if whole and status == 200:
            # Swift tells in the body what became of a manifest and its segments.
            body = local.read(1 << 20)
            local.pieces = [body or b""]
            status = bulk_status(body)
        else:
            local.hold()
        if whole and status == 404:
            # Swift tells so everybody who may read. A plain DELETE it answers to those only who may write.
            check = call(self.app, plain)
            check.hold()
            if check.status not in (204, 404):
                return check.send(start_response)
        if token is None or status not in (204, 404):
            return local.send(start_response)
        headers = forwarded + [
            ("X-Shunt-Step", "after"), ("X-Shunt-Token", token), ("X-Shunt-Local-Status", str(status))]
        try:
            answer = self.ask("DELETE", target, headers)
        except ShuntAway as error:
            return self.unavailable(request, error, start_response)
        if answer is None:
            return local.send(start_response)
        if body is not None and answer.status == 204:
            answer.close()
            return bulk_deleted(local, body, start_response)
        return self.hand_out(answer, local, start_response)

    def post(self, request, start_response):
        forwarded = request.forwarded(changes=True)
        again = sub_environment(request.env, "POST", request.path, request.query)
        local = call(self.app, request.env)
        if local.status != 404:
            return local.send(start_response)
        local.hold()
        headers = forwarded + [("X-Shunt-Step", "after"), ("X-Shunt-Local-Status", "404")]
        try:
            answer = self.ask("POST", request.target(without_signature(request.query)), headers)
        except ShuntAway as error:
            return self.unavailable(request, error, start_response)
        if answer is None:
            return local.send(start_response)
        if answer.status == 202:
            # A client's GET may have made it local again meanwhile, with the metadata of before.
            repeated = call(self.app, again)
            repeated.hold()
            if repeated.status != 404 and not 200 <= repeated.status < 300:
                answer.close()
                return repeated.send(start_response)
        return self.hand_out(answer, local, start_response)

    def bring_out(self, request, start_response):
        """Has the remote bring an object out of its archive class, for those who may write it. Nothing changes in Swift."""
        target = request.target(without_signature(request.query))
        headers = request.forwarded(changes=True) + [("X-Shunt-Step", "after"), ("X-Shunt-Local-Status", "404")]
        head = call(self.app, sub_environment(request.env, "HEAD", request.path))
        head.hold()
        if 200 <= head.status < 300:
            start_response("409 Conflict", [
                ("Content-Type", "text/plain; charset=UTF-8"), ("Content-Length", str(len(LOCAL)))])
            return [LOCAL]
        dated = sub_environment(request.env, "POST", request.path, "", [("X-Timestamp", LONG_AGO)])
        local = call(self.app, dated)
        if head.status != 404 or local.status != 404:
            return local.send(start_response)
        local.hold()
        try:
            answer = self.ask("POST", target, headers)
        except ShuntAway as error:
            return self.unavailable(request, error, start_response)
        if answer is None:
            return local.send(start_response)
        return self.hand_out(answer, local, start_response)

    # Copies

    def copy(self, request, copy, start_response):
        # The middleware below turns the request into its PUT, so it works on a copy of the environment.
        local = call(self.app, dict(request.env))
        if local.status != 404:
            return local.send(start_response)
        local.hold()
        head = call(self.app, copy.source_environment("HEAD"))
        head.hold()
        if head.status != 404:
            # The source is there, or not for this client: then the container of the copy is what is missing.
            return local.send(start_response)
        headers = request.forwarded() + [("X-Shunt-Step", "miss")] + local_headers(head)
        try:
            answer = self.ask_for(request, "GET", copy.source_target(), headers)
        except ShuntAway as error:
            return self.unavailable(request, error, start_response)
        if answer is None:
            return local.send(start_response)
        if answer.status >= 300:
            return self.hand_out(answer, local, start_response)
        return copy.write(self.app, answer, start_response)

    # ProxyFS

    def is_other_kind(self, env):
        """True when this account is for the other instance of this filter; see `handle_proxyfs`."""
        bimodal = env.get("pfs.is_bimodal")
        if bimodal is None:
            bimodal = self.is_bimodal(env)
        return bool(bimodal) != self.handle_proxyfs

    def is_bimodal(self, env):
        # Asked about mapped containers only, and of Swift's cache.
        if self.account_info is None:
            return False
        info = self.account_info(env, self.app, swift_source="SHUNT")
        return str((info.get("sysmeta") or {}).get("proxyfs-bimodal", "")).lower() in TRUE

    def keeps_versions(self, env):
        """True when Swift keeps what is deleted in this container, in any of its ways: then the remote copy stays, too."""
        if self.container_info is None:
            return False
        sysmeta = self.container_info(env, self.app, swift_source="SHUNT").get("sysmeta") or {}
        return bool(sysmeta.get("versions-location")) or str(sysmeta.get("versions-enabled", "")).lower() in TRUE


class Readers:
    """Who was just let in to list a container: for them the remote is asked at the same time as Swift."""

    #: Rights that end are noticed after so many seconds at the latest: until then a listing is begun in vain.
    GOOD_FOR = 60.0
    #: Beyond that all are forgotten, which costs each one slower listing.
    MOST = 10000

    def __init__(self, clock=time.monotonic):
        self.clock = clock
        self.until = {}

    def knows(self, reader):
        return self.until.get(reader, 0.0) > self.clock()

    def remember(self, reader):
        # Without a user it is nobody in particular.
        if reader[0]:
            if len(self.until) >= self.MOST:
                self.until.clear()
            self.until[reader] = self.clock() + self.GOOD_FOR


class Body:
    """The shunt's body for the server. What breaks is raised, so that the client's connection breaks too."""

    def __init__(self, answer):
        self.answer = answer

    def __iter__(self):
        return self.answer

    def close(self):
        self.answer.close()


def local_headers(local):
    timestamp = local.header("x-backend-timestamp")
    return [("X-Shunt-Local-Timestamp", timestamp)] if timestamp else []


def is_object_listing(request):
    """False for shard ranges, and for old versions, which no remote has."""
    if request.header("x-backend-record-type"):
        return False
    return not {"versions", "version_marker", "states"} & set(request.parameters())


def asks_for_version(request):
    """True for what only Swift has: old versions, and links themselves."""
    parameters = request.parameters()
    return parameters.get("version-id") not in (None, "", "null") or parameters.get("symlink") == "get"


def bulk_status(body):
    """204 when a bulk delete removed something, 404 when there was nothing, else 0."""
    numbers = {}
    for line in (body or b"").replace(b",", b"\n").splitlines():
        name, _, value = line.decode("utf-8", "replace").partition(":")
        numbers[name.strip(' "{}').lower()] = value.strip(' "{}')
    if numbers.get("number deleted", "").isdigit() and int(numbers["number deleted"]) > 0:
        return 204 if numbers.get("errors", "").strip("[]") == "" else 0
    if numbers.get("number not found", "").isdigit() and int(numbers["number not found"]) > 0:
        return 404
    return 0


def bulk_deleted(local, body, start_response):
    """Swift's own words for a manifest that was deleted."""
    if bulk_status(body) == 404:
        text = body.decode("utf-8", "replace")
        for found, better in (
                ("Number Not Found: 1", "Number Not Found: 0"), ("Number Deleted: 0", "Number Deleted: 1"),
                ('"Number Not Found": 1', '"Number Not Found": 0'), ('"Number Deleted": 0', '"Number Deleted": 1'),
                ("404 Not Found", "200 OK")):
            text = text.replace(found, better)
        body = text.encode("utf-8")
    headers = [(name, value) for name, value in local.headers if name.lower() != "content-length"]
    start_response(local.status_line, headers + [("Content-Length", str(len(body)))])
    return [body]


def seconds(conf, name, default):
    value = float(conf.get(name, default))
    if not 0 < value <= 3600:
        raise ValueError("%s = %s: expected seconds, more than 0 and at most 3600" % (name, value))
    return value


def read_token(path):
    if not path:
        return None
    with open(path, encoding="ascii") as file:
        token = file.read(4096).strip()
    if not token or any(character.isspace() for character in token):
        raise ValueError("token_file = %s: expected one word" % path)
    return token


def account_info():
    """Swift's function, or None without Swift."""
    try:
        from swift.proxy.controllers.base import get_account_info
    except ImportError:
        return None
    return get_account_info


def container_info():
    """Swift's function, or None without Swift."""
    try:
        from swift.proxy.controllers.base import get_container_info
    except ImportError:
        return None
    return get_container_info


def listing_limit():
    """Entries of a page for clients that name no limit; None without Swift, which then has its default."""
    try:
        from swift.common.constraints import CONTAINER_LISTING_LIMIT
    except ImportError:
        return None
    return CONTAINER_LISTING_LIMIT


def make_logger(conf):
    try:
        from swift.common.utils import get_logger
    except ImportError:
        return logging.getLogger("s3_sync.shunt")
    return get_logger(conf, log_route="s3_sync.shunt")


def filter_factory(global_conf, **local_conf):
    """For paste. `conf_file` of the original is accepted: the shunt has the rules, this filter reads none."""
    conf = dict(global_conf)
    conf.update(local_conf)
    return lambda app: CloudShunt(app, conf)
