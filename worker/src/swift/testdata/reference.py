"""Debian's Swift as the reference: makes rings and container databases, and says what Swift itself reads from them.

Usage: reference.py <function> <arguments>; prints JSON.
"""

import array
import gzip
import json
import os
import sqlite3
import struct
import sys
import threading

import swift.common.utils as utils

utils.HASH_PATH_PREFIX = b'start'
utils.HASH_PATH_SUFFIX = b'changeme'

from swift.common.ring import Ring, RingBuilder, RingData  # noqa: E402
from swift.common.utils import ShardRange, Timestamp  # noqa: E402
from swift.container.backend import ContainerBroker  # noqa: E402

PATHS = [('AUTH_test',), ('AUTH_test', 'photos'), ('AUTH_\u00e9', 'c\u00f6ntainer', 'o/../\u4e2d %2F'),
         ('.shards_AUTH_test', 'photos-0123')] + [
    ('AUTH_%d' % (number % 7), 'container-%d' % (number % 31), 'object %d' % number) for number in range(300)]


def answers(path):
    """What Swift's own Ring says for all paths."""
    ring = Ring(path)
    found = []
    for names in PATHS:
        partition, nodes = ring.get_nodes(*names)
        found.append({'path': names, 'partition': partition, 'nodes': [
            {'index': node['index'], 'id': node['id'], 'ip': node['ip'], 'port': node['port'],
             'device': node['device'], 'region': node['region'], 'zone': node['zone']} for node in nodes]})
    return {'replica_count': ring.replica_count, 'partition_count': ring.partition_count, 'answers': found}


def build(path, replicas, devices, removed=()):
    builder = RingBuilder(7, replicas, 1)
    for number in range(devices):
        builder.add_dev({'region': 1 + number % 2, 'zone': number % 3, 'ip': '10.0.%d.1' % number if number % 4 else
                         'fd00::%x' % (number + 1), 'port': 6200 + number, 'device': 'sd%s' % chr(97 + number),
                         'weight': 100 + number, 'replication_ip': '192.168.0.1', 'replication_port': 9})
    builder.rebalance(seed=1)
    for number in removed:
        builder.remove_dev(number)
        builder.pretend_min_part_hours_passed()
        builder.rebalance(seed=1)
    builder.get_ring().save(path)


def rings(folder):
    """Rings of several shapes, by file name."""
    result = {}
    for name, replicas, devices, removed in (('plain', 3, 8, ()), ('fractional', 2.5, 6, ()),
                                             ('removed', 3, 7, (2, 4)), ('one-device', 1, 1, ())):
        path = os.path.join(folder, name + '.ring.gz')
        build(path, replicas, devices, removed)
        result[name] = answers(path)
    # More replicas than devices: one device is named more than once.
    path = os.path.join(folder, 'repeated.ring.gz')
    devices = [{'id': number, 'region': 1, 'zone': 1, 'ip': '10.0.0.%d' % number, 'port': 6200, 'device': 'd',
                'weight': 1} for number in range(2)]
    RingData([array.array('H', row) for row in ([0, 1, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0])], devices, 30).save(path)
    result['repeated'] = answers(path)
    # The same ring as a machine of the other byte order would write it.
    with gzip.open(os.path.join(folder, 'plain.ring.gz')) as source:
        content = source.read()
    length, = struct.unpack('!I', content[6:10])
    header = json.loads(content[10:10 + length])
    other = 'big' if header['byteorder'] == 'little' else 'little'
    header = json.dumps(dict(header, byteorder=other)).encode('ascii')
    rows = bytearray(content[10 + length:])
    rows[0::2], rows[1::2] = rows[1::2], rows[0::2]
    with gzip.open(os.path.join(folder, 'swapped.ring.gz'), 'wb') as target:
        target.write(content[:6] + struct.pack('!I', len(header)) + header + bytes(rows))
    result['swapped'] = answers(os.path.join(folder, 'swapped.ring.gz'))
    return result


def hashes(_unused):
    return [{'path': names, 'hex': utils.hash_path(*names)} for names in PATHS]


def swift_conf(path):
    """What Swift takes from a swift.conf, or why it takes nothing."""
    utils.HASH_PATH_PREFIX = utils.HASH_PATH_SUFFIX = b''
    utils.SWIFT_CONF_FILE = path
    try:
        utils.validate_hash_conf()
    except Exception as error:
        return {'error': type(error).__name__}
    result = {'prefix': utils.HASH_PATH_PREFIX.hex(), 'suffix': utils.HASH_PATH_SUFFIX.hex()}
    # Importing this reads the file, as the program's locale says, and not as Latin-1.
    try:
        from swift.common.storage_policy import POLICIES
    except UnicodeDecodeError:
        return result
    except SystemExit:
        return {'error': 'SystemExit'}
    result['policies'] = [{'index': int(policy), 'name': policy.name, 'type': policy.policy_type,
                           'deprecated': policy.is_deprecated} for policy in POLICIES]
    return result


def time(units, offset=0):
    return Timestamp(units / 100000, offset=offset).internal


def make(devices, container='photos', start=140000000000000):
    broker, _ = ContainerBroker.create_broker(
        os.path.join(devices, 'sda1'), 42, 'AUTH_test', container, put_timestamp=time(start))
    return broker


def put(broker, name, units, **more):
    broker.put_object(name, time(units, more.pop('offset', 0)), more.pop('size', 10), 'text/plain', 'a' * 32, **more)


def describe(broker):
    broker.get_info()
    broker.reload_db_files()
    info = broker.get_info()
    rows = broker.get_items_since(-1, 1000)
    decoded = []
    for row in rows:
        data, content_type, metadata = utils.decode_timestamps(row['created_at'])
        decoded.append({'rowid': row['ROWID'], 'name': row['name'], 'size': row['size'], 'etag': row['etag'],
                        'content_type': row['content_type'], 'deleted': row['deleted'],
                        'policy_index': row['storage_policy_index'], 'data': data.internal,
                        'type': content_type.internal, 'metadata': metadata.internal})
    return {'hash': os.path.basename(broker._db_file)[:32], 'files': [os.path.basename(path) for path in broker.db_files], 'id': info['id'],
            'account': info['account'], 'container': info['container'], 'deleted': broker.is_deleted(),
            'state': info['db_state'], 'object_count': info['object_count'], 'rows': decoded,
            'shards': [shard.name for shard in broker.get_shard_ranges()]}


def unsharded(devices):
    broker = make(devices)
    put(broker, 'plain', 140000000100000, size=5)
    put(broker, 'offset', 140000000200000, offset=3)
    put(broker, 'posted', 140000000300000)
    put(broker, 'posted', 140000000300000, ctype_timestamp=time(140000000400000), meta_timestamp=time(140000000512345))
    put(broker, 'gone', 140000000500000, deleted=1, size=0)
    put(broker, 'caf\u00e9/\u4e2d/../%2F\n', 140000000600000, storage_policy_index=1)
    put(broker, 'plain', 140000000700000, size=7)
    result = describe(broker)
    # Stays in the pending file.
    put(broker, 'pending', 140000000800000)
    return result


def deleted(devices):
    broker = make(devices)
    broker.delete_db(time(150000000000000))
    return describe(broker)


def recreated(devices):
    broker = make(devices)
    broker.delete_db(time(150000000000000))
    broker.update_put_timestamp(time(160000000000000))
    put(broker, 'again', 160000000100000)
    return describe(broker)


def delete_with_objects(devices):
    broker = make(devices)
    put(broker, 'still here', 160000000100000)
    broker.get_info()
    broker.delete_db(time(170000000000000))
    return describe(broker)


def shards(broker):
    return [ShardRange('.shards_AUTH_test/photos-%d' % number, Timestamp(1500000000), lower, upper, object_count=3,
                       state=state)
            for number, (lower, upper, state) in enumerate((('', 'm', ShardRange.CLEAVED),
                                                            ('m', '', ShardRange.CREATED)))]


def sharding(devices):
    broker = make(devices)
    put(broker, 'old', 140000000100000)
    broker.get_info()
    broker.enable_sharding(Timestamp(1500000001))
    broker.merge_shard_ranges(shards(broker))
    assert broker.set_sharding_state()
    put(broker, 'new', 150000000200000)
    return describe(broker)


def sharded(devices):
    sharding(devices)
    broker = make(devices)
    ranges = broker.get_shard_ranges()
    for shard in ranges:
        shard.state = ShardRange.ACTIVE
        shard.state_timestamp = Timestamp(1500000002)
    broker.merge_shard_ranges(ranges)
    own = broker.get_own_shard_range()
    own.update_state(ShardRange.SHARDED, Timestamp(1500000003))
    broker.merge_shard_ranges([own])
    assert broker.set_sharded_state()
    return describe(broker)


def collapsed(devices):
    sharded(devices)
    broker = make(devices)
    ranges = broker.get_shard_ranges()
    for shard in ranges:
        shard.set_deleted(Timestamp(1500000009))
    broker.merge_shard_ranges(ranges)
    return describe(broker)


def database(devices):
    broker = make(devices)
    broker.get_info()
    return broker.db_file


def keep_writing(devices):
    """Writes rows until standard input is closed; says so first."""
    broker = make(devices)
    broker.get_info()
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    number = 0
    print(json.dumps(broker.db_file), flush=True)
    while not stop.is_set():
        number += 1
        put(broker, 'object-%d' % number, 140000000100000 + number)
        # A few overwrites too: they move rows to new numbers.
        put(broker, 'object-%d' % (number // 2), 140000100000000 + number)
        broker.get_info()
    return {'rows': [[row['ROWID'], row['name']] for row in broker.get_items_since(-1, 10000000)]}


def die_inside_transaction(devices):
    """Leaves a journal that the next writer must roll back."""
    path = database(devices)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function('chexor', 3, lambda old, name, time: old)
    connection.execute('PRAGMA cache_size = 1')
    connection.execute('BEGIN')
    for number in range(2000):
        connection.execute('INSERT INTO object (name, created_at, size, content_type, etag, deleted) '
                           'VALUES (?, ?, 1, ?, ?, 0)', ('n' * 100 + str(number), time(140000000100000), 't', 'e'))
    print(json.dumps(path), flush=True)
    os._exit(0)


def hold_lock(devices):
    """Holds the write lock until standard input is closed."""
    path = database(devices)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute('BEGIN EXCLUSIVE')
    print(json.dumps(path), flush=True)
    sys.stdin.read()
    os._exit(0)


def hostile_rows(devices):
    """Rows that no Swift would write, between good ones."""
    path = database(devices)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function('chexor', 3, lambda old, name, time: old)
    good = ('good', time(140000000100000), 1, 'text/plain', 'e', 0, 0)
    bad = [(None,) + good[1:], (b'blob',) + good[1:], ('',) + good[1:], ('x' * 10000,) + good[1:],
           ('no-time', None) + good[2:], ('bad-time', 'soon') + good[2:], ('long-time', '1' * 999) + good[2:],
           ('negative',) + good[1:2] + (-1,) + good[3:], ('text-size',) + good[1:2] + ('many',) + good[3:],
           ('no-size',) + good[1:2] + (None,) + good[3:], ('deleted-2',) + good[1:5] + (2, 0),
           ('bad-policy',) + good[1:6] + (-3,), ('huge-policy',) + good[1:6] + (1 << 40,)]
    # The triggers count; a NULL size would stop them.
    connection.execute('DROP TRIGGER object_insert_policy_stat')
    statement = ('INSERT INTO object (name, created_at, size, content_type, etag, deleted, storage_policy_index) '
                 'VALUES (?, ?, ?, ?, ?, ?, ?)')
    connection.execute(statement, good)
    for row in bad:
        connection.execute(statement, row)
    connection.execute("INSERT INTO object (name, created_at, size, content_type, etag) "
                       "VALUES (CAST(X'66FF66' AS TEXT), ?, 1, 't', 'e')", good[1:2])
    connection.execute(statement, ('nulls',) + good[1:3] + (None, None, 1, 0))
    connection.execute(statement, ('also good',) + good[1:])
    connection.close()
    return path


def hostile_shards(devices):
    path = database(devices)
    connection = sqlite3.connect(path, isolation_level=None)
    good = ('.shards_a/ok', time(140000000100000), '', 'm', 0, 40, None)
    bad = [('noslash',) + good[1:], ('a/b/c',) + good[1:], ('/x',) + good[1:], ('x/',) + good[1:],
           (None,) + good[1:], ('a/t', 'never') + good[2:], ('a/order',) + good[1:2] + ('z', 'a') + good[4:],
           ('a/state',) + good[1:5] + (41, None), ('a/deleted',) + good[1:4] + (7, 40, None),
           ('a/epoch',) + good[1:6] + ('x',)]
    for row in [good] + bad:
        connection.execute('INSERT INTO shard_range (name, timestamp, lower, upper, deleted, state, epoch) '
                           'VALUES (?, ?, ?, ?, ?, ?, ?)', row)
    connection.close()
    return {'path': path, 'bad': len(bad)}


def old_schema(devices):
    """A database from before storage policies and shard ranges."""
    path = os.path.join(devices, 'old.db')
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript('''
        CREATE TABLE object (ROWID INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, created_at TEXT, size INTEGER,
            content_type TEXT, etag TEXT, deleted INTEGER DEFAULT 0);
        CREATE TABLE container_stat (account TEXT, container TEXT, created_at TEXT, put_timestamp TEXT DEFAULT '0',
            delete_timestamp TEXT DEFAULT '0', object_count INTEGER, bytes_used INTEGER, hash TEXT, id TEXT,
            status TEXT DEFAULT '');
        INSERT INTO container_stat (account, container, put_timestamp, object_count, id)
            VALUES ('AUTH_old', 'c', '1300000000.00000', 1, 'old-id');
        INSERT INTO object (name, created_at, size, content_type, etag)
            VALUES ('o', '1300000001.00000', 3, 't', 'e');
    ''')
    connection.close()
    return path


if __name__ == '__main__':
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
