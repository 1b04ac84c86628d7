"""Makes a root folder look like a node of a Swift cluster: swift.conf, rings, and one container database as Swift makes it.

    /usr/bin/python3 swift_node.py ROOT UID GID ACCOUNT CONTAINER OBJECT...

Prints the database's path, as seen inside of the root folder.
"""

import os
import sys

CONF = "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n\n[storage-policy:0]\nname = gold\ndefault = yes\n"
TIMESTAMP = "1700000000.00000"


def main(root, uid, gid, account, container, objects):
    swift_dir = os.path.join(root, "etc/swift")
    os.makedirs(swift_dir, exist_ok=True)
    conf = os.path.join(swift_dir, "swift.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(CONF)
    os.chmod(conf, 0o644)

    from swift.common import utils
    # What this machine's own swift.conf says has been read by now.
    utils.HASH_PATH_PREFIX, utils.HASH_PATH_SUFFIX = b"a", b"b"
    from swift.common.ring import RingBuilder
    for name in ("account", "container", "object"):
        builder = RingBuilder(1, 1, 1)
        builder.add_dev({
            "id": 0, "region": 1, "zone": 1, "weight": 100.0, "ip": "127.0.0.1", "port": 6201, "device": "sda", "meta": "",
            "replication_ip": "127.0.0.1", "replication_port": 6201})
        builder.rebalance(seed=1)
        builder.get_ring().save(os.path.join(swift_dir, name + ".ring.gz"))

    from swift.common.ring import Ring
    from swift.container.backend import ContainerBroker
    digest = utils.hash_path(account, container)
    part = Ring(swift_dir, ring_name="container").get_part(account, container)
    inside = os.path.join("srv/node/sda/containers", str(part), digest[-3:], digest, digest + ".db")
    broker = ContainerBroker(os.path.join(root, inside), account=account, container=container)
    broker.initialize(TIMESTAMP, 0)
    for name in objects:
        broker.put_object(name, TIMESTAMP, 5, "text/plain", "5d41402abc4b2a76b9719d911017c592")
    broker.get_info()
    for folder, _, files in os.walk(os.path.join(root, "srv/node")):
        os.chown(folder, uid, gid)
        for name in files:
            os.chown(os.path.join(folder, name), uid, gid)
    print("/" + inside)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6:])
