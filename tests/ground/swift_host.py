"""Runs the processes of one Swift cluster on behalf of the Rust test ground.

Imports Swift once and forks a child for every server or daemon run, so that a cluster of a dozen processes pays for
the imports once. Each child reads the swift.conf of its own cluster: Swift itself knows only /etc/swift, so
the directory is set before anything else is loaded.

Requests are JSON lines on stdin, answers are JSON lines on stdout with the same "id". The host ends, and
kills its children, at the end of stdin: that is, when the process that started it is gone, however it went.
"""

import argparse
import ctypes
import gc
import importlib
import json
import logging
import os
import select
import signal
import sys
import traceback

PR_SET_PDEATHSIG = 1
# (module, class) of what can be run once, by the name of its command without the "swift-".
DAEMONS = {
    "account-replicator": ("swift.account.replicator", "AccountReplicator"),
    "account-reaper": ("swift.account.reaper", "AccountReaper"),
    "container-replicator": ("swift.container.replicator", "ContainerReplicator"),
    "container-reconciler": ("swift.container.reconciler", "ContainerReconciler"),
    "container-sharder": ("swift.container.sharder", "ContainerSharder"),
    "container-updater": ("swift.container.updater", "ContainerUpdater"),
    "object-expirer": ("swift.obj.expirer", "ObjectExpirer"),
    "object-reconstructor": ("swift.obj.reconstructor", "ObjectReconstructor"),
    "object-replicator": ("swift.obj.replicator", "ObjectReplicator"),
    "object-updater": ("swift.obj.updater", "ObjectUpdater"),
}


class Host:
    def __init__(self, swift_dir):
        self.swift_dir = swift_dir
        # pid -> (id of the request that waits for its end or None)
        self.children = {}
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self):
        buffer = b""
        while True:
            readable, _, _ = select.select([0, self.wake_read], [], [])
            if self.wake_read in readable:
                try:
                    os.read(self.wake_read, 4096)
                except BlockingIOError:
                    pass
                self.reap()
            if 0 in readable:
                data = os.read(0, 65536)
                if not data:
                    self.end()
                    return
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    self.handle(json.loads(line))

    def handle(self, request):
        request_id = request["id"]
        try:
            operation = request["operation"]
            if operation == "serve":
                pid = self.fork(request["log"], lambda: serve(request["application"], request["conf"], request.get("packages")))
                self.children[pid] = None
                self.answer(request_id, pid=pid)
            elif operation == "run":
                pid = self.fork(request["log"], lambda: run_once(request["daemon"], request["conf"]))
                self.children[pid] = request_id
            elif operation == "call":
                pid = self.fork(request["log"], lambda: call(request["function"], request["arguments"]))
                self.children[pid] = request_id
            elif operation == "signal":
                pid = request["pid"]
                if pid in self.children:
                    if request["wait"]:
                        self.children[pid] = request_id
                    os.kill(pid, request["signal"])
                    if not request["wait"]:
                        self.answer(request_id)
                else:
                    self.answer(request_id, exit=None)
            else:
                self.answer(request_id, error=f"unknown operation {operation!r}")
        except Exception as error:
            self.answer(request_id, error=repr(error))

    def fork(self, log, body):
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log_file, 1)
            os.dup2(log_file, 2)
            os.closerange(3, 64)
            use_cluster(self.swift_dir)
            status = int(body() or 0)
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.__stderr__)
                status = 1
            else:
                status = int(stop.code or 0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            sys.__stdout__.flush()
            sys.__stderr__.flush()
            os._exit(status)

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            request_id = self.children.pop(pid, None)
            if request_id is not None:
                self.answer(request_id, exit=os.waitstatus_to_exitcode(status))

    def answer(self, request_id, **fields):
        os.write(1, json.dumps({"id": request_id, **fields}).encode() + b"\n")

    def end(self):
        for pid in self.children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def use_cluster(swift_dir):
    import eventlet.hubs
    from swift.common import constraints, storage_policy, utils

    # A hub that was made before the fork has its file descriptor closed by now.
    eventlet.hubs.use_hub(utils.get_hub())
    utils.set_swift_dir(swift_dir)
    storage_policy.reload_storage_policies()
    constraints.reload_constraints()


def serve(application, conf, packages):
    from swift.common.wsgi import run_wsgi

    if packages:
        sys.path.insert(0, packages)
    if application == "object-server":
        from swift.obj import server

        return run_wsgi(conf, application, global_conf_callback=server.global_conf_callback, verbose=True)
    return run_wsgi(conf, application, verbose=True)


def run_once(daemon, conf):
    from swift.common.daemon import run_daemon

    module, name = DAEMONS[daemon]
    run_daemon(getattr(importlib.import_module(module), name), conf, section_name=daemon, once=True, verbose=True)


def call(function, arguments):
    functions = {
        "build_rings": build_rings,
        "redirect_rings": redirect_rings,
        "copy_container_db": copy_container_db,
        "manage_shard_ranges": manage_shard_ranges,
        "insert_rows": insert_rows,
        "write_ring_nodes": write_ring_nodes,
    }
    return functions[function](**arguments)


def build_rings(rings):
    """Writes ring files. Each ring: path, part_power, replicas, devices [{ip, port, device, region, zone}]."""
    from swift.common.ring import RingBuilder

    for ring in rings:
        builder = RingBuilder(ring["part_power"], ring["replicas"], 1)
        for number, device in enumerate(ring["devices"]):
            builder.add_dev({
                "id": number, "region": device["region"], "zone": device["zone"], "weight": 100.0,
                "ip": device["ip"], "port": device["port"], "device": device["device"], "meta": "",
                "replication_ip": device["ip"], "replication_port": device["port"],
            })
        builder.rebalance(seed=ring["seed"])
        builder.get_ring().save(ring["path"])


def write_ring_nodes(ring, target):
    """Writes for each partition the addresses of its devices, in the order of their replica indexes, as JSON."""
    from swift.common.ring import RingData

    data = RingData.load(ring)
    rows = zip(*data._replica2part2dev_id)
    with open(target + ".new", "w") as file:
        json.dump([[data.devs[number]["ip"] for number in row] for row in rows], file)
    os.rename(target + ".new", target)


def redirect_rings(source, target, ports):
    """Copies every ring of `source` to `target`; `ports` maps "ip:port" to another port on the same address."""
    from swift.common.ring import RingData

    for name in os.listdir(source):
        if not name.endswith(".ring.gz"):
            continue
        ring = RingData.load(os.path.join(source, name))
        for device in ring.devs:
            if device:
                other = ports.get(f'{device["ip"]}:{device["port"]}')
                if other:
                    device["port"] = other
        ring.save(os.path.join(target, name))


def copy_container_db(source, target, new_id):
    """Copies a container database as the replicator's whole-file transfer does: rsync, then a new id."""
    import shutil

    from swift.container.backend import ContainerBroker

    origin = ContainerBroker(source)
    info = origin.get_info()
    origin_id = info["id"]
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = target + ".incoming"
    with origin.lock():
        shutil.copyfile(source, temporary)
    if new_id:
        arriving = ContainerBroker(temporary)
        arriving.newid(origin_id)
    for leftover in (target, target + ".pending", target + "-wal", target + "-shm"):
        if os.path.exists(leftover):
            os.unlink(leftover)
    os.rename(temporary, target)


def insert_rows(database, count, size, etag, timestamp):
    """Puts rows of objects that nobody has stored into a container database: o00000000, o00000001 and so on."""
    from swift.container.backend import ContainerBroker

    broker = ContainerBroker(database)
    policy_index = broker.get_info()["storage_policy_index"]
    for first in range(0, count, 10000):
        broker.merge_items([
            {
                "name": "o%08d" % number, "created_at": timestamp, "size": size, "etag": etag,
                "content_type": "application/octet-stream", "deleted": 0, "storage_policy_index": policy_index,
                "ctype_timestamp": None, "meta_timestamp": None,
            }
            for number in range(first, min(first + 10000, count))
        ])


def manage_shard_ranges(arguments):
    from swift.cli.manage_shard_ranges import main

    return main(arguments)


def log_to_stderr(conf, name, log_to_console, log_route, fmt, logger, adapted_logger):
    """Keeps Swift's own console handler and removes the one that would send every line to syslog."""
    for handler in list(logger.handlers):
        if isinstance(handler, logging.handlers.SysLogHandler):
            logger.removeHandler(handler)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("swift_dir")
    arguments = parser.parse_args()
    # A forked child imports "swift_host" by name for its log handler.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.dont_write_bytecode = True
    import logging.handlers  # noqa: F401
    import swift_host  # noqa: F401
    import swift.account.server  # noqa: F401
    import swift.common.wsgi  # noqa: F401
    import swift.container.server  # noqa: F401
    import swift.obj.server  # noqa: F401
    import swift.proxy.server  # noqa: F401
    for name in ("catch_errors", "gatekeeper", "healthcheck", "memcache", "tempauth", "slo", "dlo",
                 "symlink", "versioned_writes", "bulk", "copy", "listing_formats", "tempurl"):
        importlib.import_module("swift.common.middleware." + name)

    gc.freeze()
    host = Host(arguments.swift_dir)
    host.answer(0)
    host.run()


if __name__ == "__main__":
    main()
