"""Archived objects stay on-line through Swift: a filter for the pipeline of Swift's proxy.

The rules are in the program ``swift-s3-shunt``; this package only asks it. See :mod:`swift_s3_sync.cloud_shunt`.
Python 3 and its standard library, nothing else: Swift need not be importable, and eventlet's patched modules are used as
they are.
"""

__version__ = "0.1.0"
