"""Makes the ring fixtures of format version 2 (tests/fixtures/ring-v2*), with what Swift itself reads from them.

Debian's Swift cannot write them: put Swift 2.36 or newer on PYTHONPATH. Usage: version2_rings.py <fixtures folder>
"""

import array
import json
import os
import sys

import swift.common.utils as utils

utils.HASH_PATH_PREFIX = b'start'
utils.HASH_PATH_SUFFIX = b'changeme'

from swift.common.ring import Ring, RingBuilder  # noqa: E402
from swift.common.ring.ring import RingData  # noqa: E402

PATHS = [('AUTH_test',), ('AUTH_test', 'photos'), ('AUTH_\u00e9', 'c\u00f6ntainer', 'o/../\u4e2d %2F')] + [
    ('AUTH_%d' % (number % 7), 'container-%d' % (number % 31), 'object %d' % number) for number in range(40)]
KEYS = ('index', 'id', 'ip', 'port', 'device', 'region', 'zone')


def answers(path):
    ring = Ring(path)
    found = []
    for names in PATHS:
        partition, nodes = ring.get_nodes(*names)
        found.append({'path': names, 'partition': partition,
                      'nodes': [{key: node[key] for key in KEYS} for node in nodes]})
    return {'replica_count': ring.replica_count, 'partition_count': ring.partition_count, 'answers': found}


def main(folder):
    builder = RingBuilder(6, 2.5, 1)
    for number in range(5):
        builder.add_dev({'region': 1, 'zone': number % 3, 'ip': '10.0.%d.1' % number, 'port': 6200,
                         'device': 'sd%s' % chr(97 + number), 'weight': 100, 'replication_ip': '192.168.0.1',
                         'replication_port': 9})
    builder.rebalance(seed=3)
    builder.remove_dev(1)
    builder.pretend_min_part_hours_passed()
    builder.rebalance(seed=3)
    narrow = builder.get_ring()
    # Four bytes for each device id, which Swift itself writes above 65,534 devices only.
    wide = RingData([array.array('I', row) for row in narrow._replica2part2dev_id], narrow.devs, narrow._part_shift,
                    version=narrow.version)
    result = {}
    for name, ring in (('ring-v2', narrow), ('ring-v2-wide', wide)):
        path = os.path.join(folder, name + '.ring.gz')
        ring.save(path, format_version=2)
        result[name] = answers(path)
    with open(os.path.join(folder, 'ring-v2.json'), 'w') as target:
        json.dump(result, target, sort_keys=True)
        target.write('\n')


if __name__ == '__main__':
    main(sys.argv[1])
