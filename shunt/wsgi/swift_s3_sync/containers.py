"""Which containers the shunt serves: asked of it every few seconds, kept when it is away."""

import json
import os
import tempfile
import threading
import time

from swift_s3_sync.connection import ShuntAway

#: A list is asked for again at most this often, in seconds.
INTERVAL = 5.0
#: The list of a hundred thousand mappings.
MAX_LIST = 64 << 20
#: Asking must not hold a client's request for longer than this, in seconds.
PATIENCE = 2.0
#: The container of a mapping of a whole account.
EVERY = "/*"


class Containers:
    """`lookup` answers None for a container that is not mapped, else its options.

    `keep` names a file with the last list, for a proxy that starts while the shunt is away; None or "" keeps none.
    """

    def __init__(self, client, logger, keep=None, clock=time.monotonic):
        self.client = client
        self.logger = logger
        self.keep = keep
        self.clock = clock
        self.accounts = {}
        self.etag = None
        self.known = False
        self.away = False
        self.next = None
        self.asking = threading.Lock()

    def lookup(self, account, container):
        if self.next is None or self.clock() >= self.next:
            self.refresh()
        containers = self.accounts.get(account)
        if containers is None:
            return None
        return containers.get(container) or containers.get(EVERY)

    def refresh(self):
        # Whoever comes while somebody asks uses the list that there is, unless there never was one.
        if not self.asking.acquire(blocking=not self.known and self.next is None):
            return
        try:
            if self.next is None or self.clock() >= self.next:
                self.ask()
        finally:
            self.next = self.clock() + INTERVAL
            self.asking.release()

    def ask(self):
        try:
            headers = [("If-None-Match", self.etag)] if self.etag else []
            answer = self.client.request("GET", "/shunt/v1/containers", headers, timeout=PATIENCE)
            try:
                if answer.status == 304 and self.known:
                    self.back()
                    return
                body = answer.read(MAX_LIST)
            finally:
                answer.close()
            if answer.status != 200:
                raise ShuntAway("status %d for the list of containers" % answer.status)
            self.accounts = parse(body)
            self.etag = answer.header("etag")
            self.known = True
            self.back()
            self.save(body)
        except (OSError, ShuntAway, ValueError) as error:
            if not self.away:
                self.away = True
                self.logger.warning("shunt away, the last list of containers stays in force: %s", error)
            if not self.known:
                self.load()

    def back(self):
        if self.away:
            self.away = False
            self.logger.info("shunt back")

    def save(self, body):
        if not self.keep:
            return
        temporary = None
        try:
            folder = os.path.dirname(self.keep) or "."
            handle, temporary = tempfile.mkstemp(prefix=".cloud-shunt-", dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            os.rename(temporary, self.keep)
        except OSError as error:
            self.logger.warning("list of containers not kept: %s", error)
            self.keep = None
            if temporary is not None:
                try:
                    os.unlink(temporary)
                except OSError:
                    pass

    def load(self):
        if not self.keep:
            return
        try:
            with open(self.keep, "rb") as file:
                self.accounts = parse(file.read(MAX_LIST))
            self.known = True
            self.logger.warning("list of containers taken from %s", self.keep)
        except (OSError, ValueError):
            pass


def parse(body):
    """`{account: {container: options}}`; a ValueError when it is not such a list."""
    document = json.loads(body)
    entries = document.get("containers") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of containers")
    accounts = {}
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) >= 2
                and isinstance(entry[0], str) and isinstance(entry[1], str)):
            raise ValueError("an entry of the list of containers is not [account, container, {…}]")
        options = entry[2] if len(entry) > 2 and isinstance(entry[2], dict) else {}
        accounts.setdefault(entry[0], {})[entry[1]] = Options(options.get("writes") is True)
    return accounts


class Options:
    """What a mapping asks of the filter. `writes`: DELETE and POST of archived objects reach the remote."""

    __slots__ = ("writes",)

    def __init__(self, writes):
        self.writes = writes
