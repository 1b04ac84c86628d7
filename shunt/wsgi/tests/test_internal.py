"""The filter of the internal proxy, by itself."""

import unittest

from swift_s3_sync.internal import filter_factory


def ask(headers, answered):
    seen, given = {}, []

    def app(env, start_response):
        seen.update(env)
        start_response("404 Not Found", answered)
        return [b""]

    env = {"REQUEST_METHOD": "HEAD", "PATH_INFO": "/v1/a/c/o"}
    env.update(headers)
    filter_factory({})(app)(env, lambda status, headers, exc_info=None: given.extend(headers))
    return seen, dict(given)


class InternalTest(unittest.TestCase):
    def test_tells_the_time_of_a_tombstone(self):
        _, given = ask({}, [("X-Backend-Timestamp", "0000000001.00000_0000000000000001")])
        self.assertEqual(given["Cloud-Sync-Timestamp"], "0000000001.00000_0000000000000001")
        self.assertEqual(given["Cloud-Sync-Door"], "internal")

    def test_tells_nothing_where_there_is_nothing(self):
        _, given = ask({}, [("Content-Length", "0")])
        self.assertNotIn("Cloud-Sync-Timestamp", given)

    def test_keeps_when_an_object_was_restored_and_nothing_else(self):
        seen, _ = ask({"HTTP_CLOUD_SYNC_RESTORED": "1700000000", "HTTP_CLOUD_SYNC_OTHER": "x"}, [])
        self.assertEqual(seen["HTTP_X_OBJECT_SYSMETA_S3_SYNC_RESTORED"], "1700000000")
        self.assertNotIn("HTTP_CLOUD_SYNC_RESTORED", seen)
        self.assertFalse([name for name in seen if name.endswith("SYSMETA_S3_SYNC_OTHER")])


if __name__ == "__main__":
    unittest.main()
