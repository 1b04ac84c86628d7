import unittest

from tests.fake_shunt import PASS, FakeShunt, FakeSwift, always, ask, make_filter, reply

CONTAINER = "/v1/AUTH_a/c"


class Listings(unittest.TestCase):
    def setUp(self):
        self.shunt = FakeShunt()
        self.swift = FakeSwift()
        self.filter = make_filter(self.shunt, self.swift)

    def test_the_merged_page_takes_the_place_of_swifts(self):
        headers = [("Content-Type", "application/json"), ("X-Container-Object-Count", "1"), ("ETag", "old")]
        self.swift.on("GET", CONTAINER, 200, b'[{"name": "a"}]', headers)
        self.shunt.answers = [always(reply(200, b"merged", Content_Type="application/json; charset=utf-8",
                                           X_Cloud_Sync_Listing="partial"))]
        got = ask(self.filter, "GET", CONTAINER, "prefix=a%20b&format=xml&limit=2&temp_url_sig=s", ACCEPT="text/plain")
        self.assertEqual((got.status, got.body), (200, b"merged"))
        self.assertEqual(got.header("Content-Length"), "6")
        self.assertEqual(got.header("Content-Type"), "application/json; charset=utf-8")
        self.assertEqual(got.header("X-Container-Object-Count"), "1")
        self.assertEqual(got.header("X-Cloud-Sync-Listing"), "partial")
        self.assertIsNone(got.header("ETag"))
        asked = self.shunt.asked()[0]
        self.assertEqual((asked["method"], asked["target"]), ("POST", CONTAINER + "?prefix=a%20b&limit=2&format=json"))
        self.assertEqual(asked["body"], b'[{"name": "a"}]')
        headers = asked["headers"]
        self.assertEqual((headers["x-shunt-step"], headers["x-shunt-method"]), ("listing", "GET"))
        self.assertNotIn("accept", headers)
        self.assertEqual(self.swift.requests[0]["QUERY_STRING"], "prefix=a%20b&limit=2&temp_url_sig=s&format=json")
        self.assertTrue(self.swift.bodies[0].closed)

    def test_both_sides_are_asked_for_the_same_number(self):
        self.swift.on("GET", CONTAINER, 200, b"[]")
        self.shunt.answers = [PASS]
        self.filter.listing_limit = 500
        ask(self.filter, "GET", CONTAINER)
        ask(self.filter, "GET", CONTAINER, "limit=7", REMOTE_USER="")
        self.assertEqual([asked["target"] for asked in self.shunt.asked()],
                         [CONTAINER + "?limit=500&format=json", CONTAINER + "?limit=7&format=json"])
        self.assertEqual(self.swift.requests[0]["QUERY_STRING"], "limit=500&format=json")
        self.assertEqual(self.shunt.asked()[0]["headers"]["x-shunt-waits"], "yes")

    def test_only_for_those_who_were_let_in_the_remote_is_asked_at_once(self):
        self.shunt.answers = [PASS]
        waits = []
        for status, user in ((403, "u"), (200, "u"), (200, "u"), (200, "v"), (200, ""), (200, "")):
            self.swift.on("GET", CONTAINER, status, b"[]")
            env = {"REMOTE_USER": user}
            ask(lambda given, start: self.filter(dict(given, **env), start), "GET", CONTAINER)
            self.shunt.wait(lambda: status == 403 or len(self.shunt.asked()) > len(waits))
            if status == 200:
                waits.append("x-shunt-waits" in self.shunt.asked()[-1]["headers"])
        self.assertEqual(waits, [True, False, True, True, True])

    def test_swifts_refusal_stands(self):
        for status in (401, 403, 404, 412, 500):
            self.swift.on("GET", CONTAINER, status, b"no")
            got = ask(self.filter, "GET", CONTAINER + "/")
            self.assertEqual(ask(self.filter, "GET", CONTAINER).status, status)
            self.assertIn(got.status, (status, 404))
        self.assertEqual(self.shunt.asked(), [])

    def test_pass_means_swifts_page(self):
        self.swift.on("GET", CONTAINER, 200, b"[]")
        self.shunt.answers = [PASS]
        self.assertEqual(ask(self.filter, "GET", CONTAINER).body, b"[]")
        self.shunt.answers = [always(reply(200, outcome="pass", X_Cloud_Sync_Listing="partial"))]
        self.assertEqual(ask(self.filter, "GET", CONTAINER).header("X-Cloud-Sync-Listing"), "partial")

    def test_an_error_of_the_shunt_is_the_answer(self):
        self.swift.on("GET", CONTAINER, 200, b"[]", [("X-Container-Object-Count", "1")])
        self.shunt.answers = [always(reply(503, b"remote away", Retry_After="9"))]
        got = ask(self.filter, "GET", CONTAINER)
        self.assertEqual((got.status, got.body, got.header("Retry-After")), (503, b"remote away", "9"))
        self.assertIsNone(got.header("X-Container-Object-Count"))

    def test_a_page_that_breaks_or_a_shunt_that_is_away_is_a_503(self):
        self.swift.on("GET", CONTAINER, 200, b"[]")
        self.shunt.answers = [always(reply(200, b"half", length=9, Connection="close"))]
        self.assertEqual(ask(self.filter, "GET", CONTAINER).status, 503)
        self.shunt.stop()
        self.filter.client.idle.clear()
        self.assertEqual(ask(self.filter, "GET", CONTAINER).status, 503)
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/d").status, 404)
        self.assertTrue(all(body.closed for body in self.swift.bodies[:2]))

    def test_other_requests_about_containers_pass(self):
        self.swift.on("GET", CONTAINER, 200, b"[]")
        for method in ("HEAD", "PUT", "POST", "DELETE"):
            self.assertEqual(ask(self.filter, method, CONTAINER).status, 404)
        ask(self.filter, "GET", CONTAINER, X_BACKEND_RECORD_TYPE="shard")
        ask(self.filter, "GET", CONTAINER, "versions=true")
        self.assertEqual(self.shunt.asked(), [])

    def test_a_stale_connection_is_no_error(self):
        self.swift.on("GET", CONTAINER, 200, b"[]")
        self.shunt.answers = [PASS]
        ask(self.filter, "GET", CONTAINER)
        self.shunt.stop()
        self.shunt.listen()
        for wire in self.filter.client.idle:
            wire.socket.shutdown(1)
        self.shunt.wait(lambda: True)
        self.assertEqual(ask(self.filter, "GET", CONTAINER).status, 200)


if __name__ == "__main__":
    unittest.main()
