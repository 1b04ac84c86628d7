"""Runs one Keystone: makes its database and its keys in a folder, then serves it until it is killed.

Debian's Keystone, without Debian's service: nothing outside of the folder is read or written. Says "ready" on stdout
when it listens.
"""

import argparse
import os
import signal
import sqlite3
import sys
import traceback
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

CONFIGURATION = """\
[DEFAULT]
use_stderr = true

[database]
connection = sqlite:///{folder}/keystone.db

[token]
provider = fernet
expiration = {expiration}
allow_expired_window = 0

[fernet_tokens]
key_repository = {folder}/fernet

[credential]
key_repository = {folder}/credential

[cache]
enabled = false

[identity]
# Passwords of tests need no protection, and logins are to be quick.
password_hash_algorithm = pbkdf2_sha512
password_hash_rounds = 1
"""


class Server(WSGIServer):
    """One request at a time: a second one would find SQLite's database locked. Each has a connection of its own."""

    request_queue_size = 100


class Handler(WSGIRequestHandler):
    def address_string(self):
        return self.client_address[0]


def manage(configuration, *arguments):
    """One run of keystone-manage, in a child: its options can be set once in a process."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            from keystone.cmd import cli

            cli.main(["keystone-manage", "--config-file", configuration, *arguments], configuration)
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"keystone-manage {arguments[0]} ended with {os.waitstatus_to_exitcode(status)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("ip")
    parser.add_argument("port", type=int)
    parser.add_argument("--password", required=True)
    parser.add_argument("--expiration", type=int, required=True)
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    configuration = os.path.join(options.folder, "keystone.conf")
    with open(configuration, "w") as file:
        file.write(CONFIGURATION.format(folder=options.folder, expiration=options.expiration))
    for name in ("fernet", "credential"):
        os.mkdir(os.path.join(options.folder, name), 0o700)

    import keystone.cmd.cli  # noqa: F401 - once, for all children

    owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    url = f"http://{options.ip}:{options.port}/v3"
    manage(configuration, "db_sync")
    manage(configuration, "fernet_setup", *owner)
    manage(configuration, "credential_setup", *owner)
    urls = ["--bootstrap-public-url", url, "--bootstrap-internal-url", url]
    manage(configuration, "bootstrap", "--bootstrap-password", options.password, *urls)

    # Keystone keeps connections that have read something, which in SQLite's other mode would keep it from writing.
    with sqlite3.connect(os.path.join(options.folder, "keystone.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")

    os.environ["OS_KEYSTONE_CONFIG_FILES"] = configuration
    sys.argv = ["keystone"]
    from keystone.server.wsgi import initialize_public_application

    server = Server((options.ip, options.port), Handler)
    server.set_app(initialize_public_application())
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
