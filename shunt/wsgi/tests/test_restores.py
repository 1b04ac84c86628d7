import base64
import json
import unittest

from tests.fake_shunt import FakeShunt, FakeSwift, always, ask, make_filter, reply

OBJECT = "/v1/AUTH_a/c/o"


def wanted(method, path, headers=(), body=b"", **other):
    text = json.dumps({"method": method, "path": path, "headers": [list(pair) for pair in headers]})
    encoded = base64.b64encode(text.encode()).decode()
    return always(reply(200, body, outcome=None, X_Shunt_Request=encoded, **other))


def decoded(asked):
    headers = json.loads(base64.b64decode(asked["headers"]["x-shunt-headers"]))
    return int(asked["headers"]["x-shunt-status"]), dict(headers)


class Restores(unittest.TestCase):
    def setUp(self):
        self.shunt = FakeShunt()
        self.swift = FakeSwift()
        self.filter = make_filter(self.shunt, self.swift)
        self.done = always(reply(204, outcome=None))

    def job(self, *steps):
        self.shunt.answers = [always(reply(200, b"x", X_Shunt_Restore="job-1"))] + list(steps) + [self.done]
        self.assertEqual(ask(self.filter, "GET", OBJECT).body, b"x")
        self.shunt.wait(lambda: not self.filter.restores.running)
        return [r for r in self.shunt.requests if r["target"] == "/shunt/v1/restore/job-1"]

    def test_requests_are_run_below_the_authentication_and_reported(self):
        self.swift.on("PUT", "/v1/AUTH_a/c/\xc3\xa9 b", 201, headers=[("Etag", "e"), ("Set-Cookie", "x")])
        self.swift.on("HEAD", OBJECT, 404, headers=[("X-Backend-Timestamp", "1.0_1")])
        asked = self.job(
            wanted("HEAD", OBJECT),
            wanted("PUT", "/v1/AUTH_a/c/%C3%A9%20b?q=1", [("X-Timestamp", "1.0_2"), ("X-Object-Meta-A", "gr\u00fcn")], b"content"))
        self.assertEqual(decoded(asked[1]), (404, {"Content-Length": "0", "X-Backend-Timestamp": "1.0_1"}))
        self.assertEqual(decoded(asked[2]), (201, {"Content-Length": "0", "Etag": "e"}))
        self.assertEqual(self.swift.uploads, [("/v1/AUTH_a/c/\xc3\xa9 b", b"content")])
        env = self.swift.requests[-1]
        self.assertNotIn("swift.authorize", env)
        self.assertEqual(
            (env["swift.authorize_override"], env["HTTP_X_TIMESTAMP"], env["QUERY_STRING"], env["HTTP_X_OBJECT_META_A"]),
            (True, "1.0_2", "q=1", "gr\xc3\xbcn"))

    def test_a_body_that_breaks_is_reported_and_no_object(self):
        def swift(env, start_response):
            if env["REQUEST_METHOD"] == "PUT":
                while env["wsgi.input"].read(65536):
                    pass
                start_response("201 Created", [("Content-Length", "0")])
                return []
            return self.swift(env, start_response)
        self.filter.restores.app = swift
        asked = self.job(wanted("PUT", OBJECT, (), b"half", length=9, Connection="close"))
        self.assertEqual(decoded(asked[1])[0], 499)

    def test_nothing_else_is_run(self):
        for method, path in (("DELETE", OBJECT), ("PUT", "/info"), ("PUT", "/v1/a b"), ("PUT", 1), (None, OBJECT)):
            self.shunt.requests.clear()
            self.swift.requests.clear()
            self.assertEqual(len(self.job(wanted(method, path))), 1)
            self.assertEqual([env["REQUEST_METHOD"] for env in self.swift.requests], ["GET"])
        self.filter.restores.start("../x", {})
        self.assertEqual(self.filter.restores.running, 0)

    def test_only_so_many_run_at_a_time(self):
        waiting = []
        self.filter.restores.spawn = lambda *arguments: waiting.append(arguments)
        for _ in range(50):
            self.filter.restores.start("job", {})
        self.assertEqual(len(waiting), 16)


if __name__ == "__main__":
    unittest.main()
