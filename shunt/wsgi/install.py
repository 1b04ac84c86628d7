#!/usr/bin/python3
"""Installs the filter without pip: the package, and the metadata by which paste finds `egg:swift-s3-sync#cloud-shunt`.

    /usr/bin/python3 install.py FOLDER       FOLDER is on the path of Swift's Python

Run it again to upgrade. Only what it writes itself is replaced: `swift_s3_sync` and `swift_s3_sync-*.dist-info`.
"""

import glob
import os
import re
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ENTRY_POINTS = (
    "[paste.filter_factory]\ncloud-shunt = swift_s3_sync.cloud_shunt:filter_factory\n"
    "cloud-shunt-internal = swift_s3_sync.internal:filter_factory\n")


def version():
    with open(os.path.join(HERE, "swift_s3_sync", "__init__.py"), encoding="utf-8") as file:
        return re.search(r'^__version__ = "([^"]+)"', file.read(), re.MULTILINE).group(1)


def install(folder):
    package = os.path.join(folder, "swift_s3_sync")
    metadata = os.path.join(folder, "swift_s3_sync-%s.dist-info" % version())
    os.makedirs(folder, exist_ok=True)
    for old in [package] + glob.glob(os.path.join(folder, "swift_s3_sync-*.dist-info")):
        if os.path.isdir(old):
            shutil.rmtree(old)
    source = os.path.join(HERE, "swift_s3_sync")
    os.makedirs(package)
    names = sorted(name for name in os.listdir(source) if name.endswith(".py"))
    for name in names:
        shutil.copyfile(os.path.join(source, name), os.path.join(package, name))
    os.makedirs(metadata)
    record = ["swift_s3_sync/%s,," % name for name in names]
    for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: swift-s3-sync\nVersion: %s\n" % version()),
            ("INSTALLER", "swift-s3-sync\n"), ("entry_points.txt", ENTRY_POINTS)):
        with open(os.path.join(metadata, name), "w", encoding="utf-8") as file:
            file.write(text)
        record.append("%s/%s,," % (os.path.basename(metadata), name))
    record.append("%s/RECORD,," % os.path.basename(metadata))
    with open(os.path.join(metadata, "RECORD"), "w", encoding="utf-8") as file:
        file.write("\n".join(record) + "\n")


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: install.py FOLDER")
    install(sys.argv[1])


if __name__ == "__main__":
    main()
