"""Three replicas of one container, with the code of Swift's own replicator between them, and everything in one process.

Usage: replicas.py <function> <arguments>; prints JSON.
"""

import json
import os
import random
import shutil
import sys
from types import SimpleNamespace

import swift.common.utils as utils

utils.HASH_PATH_PREFIX = b'start'
utils.HASH_PATH_SUFFIX = b'changeme'

from swift.common import db_replicator  # noqa: E402
from swift.common.utils import ShardRange, Timestamp  # noqa: E402
from swift.container import replicator  # noqa: E402
from swift.container.backend import ContainerBroker, DATADIR  # noqa: E402

PARTITION, ACCOUNT, CONTAINER = 42, 'AUTH_test', 'photos'
DEVICES = ('sda1', 'sdb1', 'sdc1')


class Here(replicator.ContainerReplicator):
    """A replicator whose peers are in the same process, and whose rsync is a copy."""

    def __init__(self, devices):
        db_replicator.ring.Ring = lambda *args, **more: SimpleNamespace()
        super().__init__({'devices': devices, 'mount_check': 'false', 'per_diff': '3', 'max_diffs': '4', 'node_timeout': '60',
                          'rsync_module': 'r', 'recon_cache_path': devices})
        self.rpc = replicator.ContainerReplicatorRpc(devices, DATADIR, ContainerBroker, mount_check=False)
        self.devices, self.rsyncs = devices, []

    def _http_connect(self, node, partition, db_file):
        def replicate(*args):
            args = json.loads(json.dumps(args))
            response = self.rpc.dispatch((node['device'], str(partition), utils.hash_path(ACCOUNT, CONTAINER)), args)
            return SimpleNamespace(status=response.status_int, data=response.body)
        return SimpleNamespace(replicate=replicate, node=node, host='here')

    def _rsync_file(self, db_file, remote_file, **more):
        path = os.path.join(self.devices, remote_file.split('/', 1)[1])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(db_file, path)
        return True

    def _rsync_db(self, broker, device, http, local_id, **more):
        before = (local_id, max([row[0] for row in rows_of(broker)] or [0]))
        # Swift's own limit is 0.5 ms for a row.
        more['replicate_timeout'] = 60
        done = super()._rsync_db(broker, device, http, local_id, **more)
        self.rsyncs.append((device['device'], more.get('replicate_method', 'complete_rsync')) + before)
        return done

    def push(self, source, target):
        broker = open_replica(self.devices, source)
        if broker is not None:
            node = {'device': target, 'ip': 'here', 'port': 1, 'replication_ip': 'here', 'replication_port': 1}
            self._repl_to_node(node, broker, PARTITION, broker.get_replication_info())


def path_of(devices, device):
    hashed = utils.hash_path(ACCOUNT, CONTAINER)
    return os.path.join(devices, device, utils.storage_directory(DATADIR, PARTITION, hashed), hashed + '.db')


def open_replica(devices, device, create=False):
    path = path_of(devices, device)
    if not os.path.exists(path) and not utils.get_db_files(path):
        if not create:
            return None
        ContainerBroker.create_broker(os.path.join(devices, device), PARTITION, ACCOUNT, CONTAINER,
                                      put_timestamp=time(0))
    return ContainerBroker(path)


def time(number):
    return Timestamp(1400000000 + number).internal


def rows_of(broker):
    return [[row['ROWID'], row['name'], row['created_at'], row['deleted']]
            for row in broker.get_items_since(-1, 1000000)]


def state(devices, here=None, horizon=0):
    """Every database as Swift reads it."""
    found = []
    for device in DEVICES:
        broker = open_replica(devices, device)
        if broker is not None:
            rows = rows_of(broker)
            found.append({'device': device, 'path': broker.db_file, 'id': broker.get_info()['id'], 'rows': rows,
                          'points': {sync['remote_id']: sync['sync_point'] for sync in broker.get_syncs()}})
    return {'replicas': found, 'rsyncs': here.rsyncs if here else [], 'horizon': time(horizon)}


def write(devices, targets, name, number, deleted=0):
    for device in targets:
        broker = open_replica(devices, device)
        if broker is not None:
            broker.put_object(name, time(number), 0 if deleted else 5, 'text/plain', 'e' * 32, deleted=deleted)
            broker.get_info()


def step(chance, devices, here, number):
    """One thing that happens in a cluster. Returns the time before which tombstones may be forgotten, if they were."""
    device, other = chance.sample(DEVICES, 2)
    what = chance.choices(('write', 'push', 'push all', 'lose', 'create', 'reclaim'), (50, 25, 8, 3, 4, 2))[0]
    if what == 'write':
        for more in range(chance.choice((1, 1, 2, 5, 14))):
            targets = chance.choice((DEVICES, DEVICES, (device,), (device, other)))
            write(devices, targets, 'object-%d' % chance.randrange(40), number + more / 100.0, chance.random() < 0.2)
    elif what == 'push':
        here.push(device, other)
    elif what == 'push all':
        for target in DEVICES:
            if target != device:
                here.push(device, target)
    elif what == 'lose':
        # Never the last one.
        if all(open_replica(devices, kept) for kept in DEVICES if kept != device):
            shutil.rmtree(os.path.join(devices, device, DATADIR), ignore_errors=True)
    elif what == 'create':
        open_replica(devices, device, create=True)
    elif open_replica(devices, device):
        horizon = number - 30
        open_replica(devices, device).reclaim(1400000000 + horizon, 0)
        return horizon
    return None


def at_random(devices, seed, steps):
    """Prints the state after each step, one on a line, whenever a line is read."""
    chance, here, horizon = random.Random(int(seed)), Here(devices), 0
    for device in DEVICES:
        open_replica(devices, device, create=True)
    for number in range(int(steps)):
        horizon = max(horizon, step(chance, devices, here, number) or 0)
        print(json.dumps(state(devices, here, horizon)), flush=True)
        if not sys.stdin.readline():
            break
    return None


def in_use(devices):
    """A writes; B has all of it, and a little more; C has a part."""
    here = Here(devices)
    for device in DEVICES:
        open_replica(devices, device, create=True)
    for number in range(5):
        write(devices, ('sda1',), 'object-%d' % number, number)
        here.push('sda1', 'sdb1')
    write(devices, ('sdb1',), 'later', 10)
    write(devices, ('sdc1',), 'elsewhere', 11)
    here.push('sdc1', 'sdb1')
    return state(devices, here)


def same_rows(devices):
    """The same writes came to A and B on their own; the replicator finds nothing to send."""
    here = Here(devices)
    for device in ('sda1', 'sdb1'):
        open_replica(devices, device, create=True)
    for number in range(4):
        write(devices, ('sda1', 'sdb1'), 'object-%d' % number, number)
    here.push('sda1', 'sdb1')
    return state(devices, here)


def copied(devices):
    """B's disk was replaced; A's database was copied there."""
    in_use(devices)
    here = Here(devices)
    shutil.rmtree(os.path.join(devices, 'sdb1', DATADIR))
    here.push('sda1', 'sdb1')
    return state(devices, here)


def merged(devices):
    """B's disk was replaced, somebody made the container there anew, and a row came before A's database was copied and merged."""
    here = Here(devices)
    for device in ('sda1', 'sdb1'):
        open_replica(devices, device, create=True)
    for number in range(20):
        write(devices, ('sda1',), 'object-%d' % number, number)
    write(devices, ('sdb1',), 'only in B', 30)
    here.push('sda1', 'sdb1')
    return state(devices, here)


def never_sent(devices):
    """As `merged`; then A has a row, and the replicator of A is asked to send it."""
    merged(devices)
    here = Here(devices)
    write(devices, ('sda1',), 'only in A', 40)
    here.push('sda1', 'sdb1')
    return state(devices, here)


def split(devices, how):
    """A and B are in step; then sharding begins at B."""
    in_use(devices)
    broker = open_replica(devices, 'sdb1')
    own = broker.get_own_shard_range()
    shard = ShardRange('.shards_AUTH_test/photos-0', Timestamp(1500000000), '', '', state=ShardRange.CREATED)
    if how == 'shard in use':
        own.update_state(ShardRange.ACTIVE)
        broker.merge_shard_ranges([own])
    elif how == 'being filled':
        own.update_state(ShardRange.CLEAVED, Timestamp(1500000001))
        own.state = ShardRange.CLEAVED
        broker.merge_shard_ranges([own])
    else:
        broker.enable_sharding(Timestamp(1500000001))
        if how != 'ordered':
            broker.merge_shard_ranges([shard])
            assert broker.set_sharding_state()
        if how == 'collapsed':
            shard.set_deleted(Timestamp(1500000009))
            broker.merge_shard_ranges([shard])
    return [{'path': path, 'points': len(ContainerBroker(path, force_db_file=True).get_syncs())}
            for path in open_replica(devices, 'sdb1').db_files]


def hostile(devices):
    """Points that no Swift would write."""
    result = in_use(devices)
    import sqlite3
    path = next(replica['path'] for replica in result['replicas'] if replica['device'] == 'sdb1')
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute('DELETE FROM incoming_sync')
    for row in [('negative', -1), ('zero', 0), ('text', 'many'), (None, 5), ('', 5), ('x' * 200, 5), ('blank here', 5),
                ('quote"', 5), ('caf\u00e9', 5), (b'blob', 5), ('real', 1.5), ('null', None), ('good', 5)]:
        connection.execute('INSERT INTO incoming_sync (remote_id, sync_point) VALUES (?, ?)', row)
    for number in range(200):
        connection.execute('INSERT INTO incoming_sync (remote_id, sync_point) VALUES (?, 7)', ('many-%d' % number,))
    connection.close()
    return path


if __name__ == '__main__':
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
