"""The paste filter `cloud-shunt-internal`: for a proxy without authentication that only the shunt and the workers reach.

Swift puts a gatekeeper into every proxy's pipeline. It keeps timestamps of tombstones and system metadata from whoever is in
front of it. An object that is restored needs both. This filter stands behind the gatekeeper and hands on exactly those two under names that the
gatekeeper does not know:

    [pipeline:main]
    pipeline = catch_errors gatekeeper cache cloud-shunt-internal copy slo dlo versioned_writes symlink proxy-server
    [filter:gatekeeper]
    use = egg:swift#gatekeeper
    shunt_inbound_x_timestamp = false
    [filter:cloud-shunt-internal]
    use = egg:swift-s3-sync#cloud-shunt-internal

Never in a proxy that clients reach: they could date their writes.
"""

#: What the shunt says of an object that it restores, and the system metadata that it becomes.
SAID = "HTTP_CLOUD_SYNC_RESTORED"
KEPT = "HTTP_X_OBJECT_SYSMETA_S3_SYNC_RESTORED"
#: By this the shunt knows that the filter is there.
DOOR = ("Cloud-Sync-Door", "internal")
#: The time of an object, or of its tombstone, with its offset.
TOLD = "Cloud-Sync-Timestamp"


class Internal:
    """The filter. It has no options."""

    def __init__(self, app):
        self.app = app

    def __call__(self, env, start_response):
        if SAID in env:
            env[KEPT] = env.pop(SAID)

        def start(status, headers, exc_info=None):
            headers = list(headers)
            headers.append(DOOR)
            times = [value for name, value in headers if name.lower() == "x-backend-timestamp"]
            if times:
                headers.append((TOLD, times[0]))
            if exc_info is None:
                return start_response(status, headers)
            return start_response(status, headers, exc_info)

        return self.app(env, start)


def filter_factory(global_conf, **local_conf):
    """For paste."""
    return Internal
