import json
import unittest

from tests.fake_shunt import PASS, FakeShunt, FakeSwift, always, ask, make_filter, reply

OBJECT = "/v1/AUTH_a/c/o"
TOKEN = always(reply(200, X_Shunt_Token="t1"))


class Writes(unittest.TestCase):
    def setUp(self):
        self.shunt = FakeShunt()
        self.swift = FakeSwift()
        self.filter = make_filter(self.shunt, self.swift)

    def steps(self):
        return [(asked["method"], asked["headers"]["x-shunt-step"]) for asked in self.shunt.asked()]

    def test_a_delete_reaches_the_remote_after_swift(self):
        for local in (404, 204):
            self.shunt.requests.clear()
            self.swift.on("DELETE", OBJECT, local)
            self.shunt.answers = [TOKEN, always(b"HTTP/1.1 204 No Content\r\nX-Shunt-Outcome: answer\r\n\r\n")]
            got = ask(self.filter, "DELETE", OBJECT)
            self.assertEqual((got.status, got.header("Content-Length")), (204, "0"))
            self.assertEqual(self.steps(), [("DELETE", "before"), ("DELETE", "after")])
            headers = self.shunt.asked()[1]["headers"]
            self.assertEqual((headers["x-shunt-token"], headers["x-shunt-local-status"]), ("t1", str(local)))

    def test_what_the_remote_does_not_have_is_deleted_by_swift_alone(self):
        self.shunt.answers = [PASS]
        self.assertEqual(ask(self.filter, "DELETE", OBJECT).status, 404)
        self.assertEqual(self.steps(), [("DELETE", "before")])

    def test_who_may_not_delete_deletes_nothing(self):
        for status in (401, 403, 409, 500):
            self.shunt.requests.clear()
            self.swift.on("DELETE", OBJECT, status)
            self.shunt.answers = [TOKEN]
            self.assertEqual(ask(self.filter, "DELETE", OBJECT).status, status)
            self.assertEqual(self.steps(), [("DELETE", "before")])

    def test_nothing_is_deleted_while_the_remote_cannot_be_asked(self):
        self.shunt.answers = [always(reply(503, b"later", Retry_After="1"))]
        got = ask(self.filter, "DELETE", OBJECT)
        self.assertEqual((got.status, got.body), (503, b"later"))
        self.assertEqual(self.swift.requests, [])

    def test_a_remote_that_fails_afterwards_is_no_success(self):
        self.swift.on("DELETE", OBJECT, 204)
        for failing in (always(reply(503)), lambda request: None):
            self.shunt.answers = [TOKEN, failing, failing]
            self.assertEqual(ask(self.filter, "DELETE", OBJECT).status, 503)

    def test_without_the_shunt_nothing_is_deleted(self):
        ask(self.filter, "GET", "/v1/AUTH_a/d/o")
        self.shunt.stop()
        self.filter.client.idle.clear()
        self.assertEqual(ask(self.filter, "DELETE", OBJECT).status, 503)
        self.assertEqual(ask(self.filter, "POST", OBJECT).status, 503)
        self.swift.on("DELETE", OBJECT, 204)
        self.swift.on("POST", OBJECT, 202)
        # Gone in Swift only, it would come back from the archive with the next GET.
        self.assertEqual(ask(self.filter, "DELETE", OBJECT).status, 503)
        self.assertEqual(ask(self.filter, "POST", OBJECT).status, 202)

    def test_a_post_goes_to_the_remote_after_swifts_404_only(self):
        self.shunt.answers = [always(reply(202))]
        got = ask(self.filter, "POST", OBJECT, CONTENT_TYPE="text/x", X_OBJECT_META_A="gr\xc3\xbcn", X_DELETE_AFTER="5",
                  X_AUTH_TOKEN="secret", X_TIMESTAMP="1", X_OBJECT_SYSMETA_A="1")
        self.assertEqual(got.status, 202)
        headers = self.shunt.asked()[0]["headers"]
        self.assertEqual({name for name in headers if not name.startswith("x-shunt")},
                         {"host", "content-length", "content-type", "x-object-meta-a", "x-delete-after", "x-trans-id"})
        for status in (202, 401, 403):
            self.swift.on("POST", OBJECT, status)
            self.assertEqual(ask(self.filter, "POST", OBJECT).status, status)
        self.assertEqual(len(self.shunt.asked()), 1)

    def test_an_object_is_brought_out_for_those_who_may_write_it(self):
        wish = {"X_CLOUD_SYNC_RESTORE_REQUEST": "days=2"}
        path = "/v1/AUTH_b/c/o"
        self.shunt.answers = [always(reply(202))]
        self.assertEqual(ask(self.filter, "POST", path, **wish).status, 202)
        asked = self.shunt.asked()[0]
        self.assertEqual((asked["method"], asked["headers"]["x-cloud-sync-restore-request"]), ("POST", "days=2"))
        self.assertEqual(self.swift.requests[-1]["HTTP_X_TIMESTAMP"], "0000000001.00000")
        self.swift.on("POST", path, 403)
        self.assertEqual(ask(self.filter, "POST", path, **wish).status, 403)
        self.swift.on("HEAD", path, 200)
        self.assertEqual(ask(self.filter, "POST", path, **wish).status, 409)
        self.assertEqual(len(self.shunt.asked()), 1)

    def test_mappings_without_writes_leave_them_to_swift(self):
        for method in ("DELETE", "POST", "PUT"):
            self.assertEqual(ask(self.filter, method, "/v1/AUTH_b/c/o").status, 404)
        self.assertEqual(self.shunt.asked(), [])

    def test_a_manifest_with_its_segments_is_deleted_remotely_too(self):
        text = (b"Number Deleted: 0\nNumber Not Found: 1\nResponse Body: \nResponse Status: 404 Not Found\nErrors:\n")
        document = (b'{"Number Deleted": 0, "Number Not Found": 1, "Response Body": "", "Response Status": '
                    b'"404 Not Found", "Errors": []}')
        swift = self.swift
        def plainly_gone(env, start_response):
            if env["REQUEST_METHOD"] == "DELETE" and not env["QUERY_STRING"]:
                start_response("404 Local", [("Content-Length", "0")])
                return []
            return swift(env, start_response)
        self.filter.app = plainly_gone
        for body, expected in ((text, b"Number Deleted: 1\nNumber Not Found: 0"), (document, b'"Number Deleted": 1')):
            self.swift.on("DELETE", OBJECT, 200, body)
            self.shunt.answers = [TOKEN, always(reply(204))]
            got = ask(self.filter, "DELETE", OBJECT, "multipart-manifest=delete")
            self.assertEqual((got.status, got.header("Content-Length")), (200, str(len(got.body))))
            self.assertIn(expected, got.body)
            self.assertEqual(self.shunt.asked()[-1]["headers"]["x-shunt-local-status"], "404")
        self.assertEqual(json.loads(got.body)["Response Status"], "200 OK")
        # Swift's report says the same to those who may only read.
        self.shunt.requests.clear()
        self.swift.on("DELETE", OBJECT, 200, text)
        found = self.filter.app

        def refusing(env, start_response):
            if env["QUERY_STRING"]:
                return swift(env, start_response)
            start_response("403 Local", [("Content-Length", "0")])
            return []
        self.filter.app = refusing
        self.shunt.answers = [TOKEN]
        self.assertEqual(ask(self.filter, "DELETE", OBJECT, "multipart-manifest=delete").status, 403)
        self.assertEqual(self.steps(), [("DELETE", "before")])
        self.filter.app = found
        failed = text.replace(b"404 Not Found", b"400 Bad Request").replace(b"Found: 1", b"Found: 0") + b"o, 401\n"
        self.swift.on("DELETE", OBJECT, 200, failed)
        self.shunt.answers = [TOKEN]
        self.assertEqual(ask(self.filter, "DELETE", OBJECT, "multipart-manifest=delete").body, failed)


class Copies(unittest.TestCase):
    def setUp(self):
        self.shunt = FakeShunt()
        self.swift = FakeSwift()
        self.filter = make_filter(self.shunt, self.swift)
        self.archived = always(reply(
            200, b"content", Etag="abc", Content_Type="text/x", X_Object_Meta_A="source", X_Object_Meta_B="source",
            Last_Modified="then", X_Timestamp="1", Remote_X="1", Content_Disposition="inline"))

    def expect_copy(self, got, name="copied", **expected):
        self.assertEqual(got.status, 201)
        path, body = self.swift.uploads[-1]
        self.assertEqual((path, body), ("/v1/AUTH_a/d/" + name, b"content"))
        env = self.swift.requests[-1]
        found = {key: env.get(key) for key in expected}
        self.assertEqual(found, expected)
        self.assertEqual(env["swift.authorize"], "the client's")
        for gone in ("HTTP_X_COPY_FROM", "HTTP_DESTINATION", "HTTP_X_TIMESTAMP", "HTTP_REMOTE_X"):
            self.assertNotIn(gone, env)

    def swift_copies_nothing(self):
        def swift(env, start_response):
            if env["REQUEST_METHOD"] == "COPY" or "HTTP_X_COPY_FROM" in env:
                self.swift.requests.append(env)
                start_response("404 Local", [("Content-Length", "0")])
                return []
            return self.swift(env, start_response)
        self.filter.app = swift
        self.swift.on("PUT", "/v1/AUTH_a/d/copied", 201, headers=[("Etag", "abc")])

    def test_an_archived_source_is_copied_with_its_metadata(self):
        self.swift_copies_nothing()
        self.shunt.answers = [self.archived]
        got = ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied", X_OBJECT_META_A="new")
        self.expect_copy(got, CONTENT_TYPE="text/x", HTTP_ETAG="abc", HTTP_X_OBJECT_META_A="new",
                         HTTP_X_OBJECT_META_B="source", HTTP_CONTENT_DISPOSITION="inline", CONTENT_LENGTH="7")
        self.assertEqual(got.header("X-Copied-From"), "c/o")
        self.assertEqual(got.header("X-Copied-From-Account"), "AUTH_a")
        self.assertEqual(got.header("X-Copied-From-Last-Modified"), "then")
        self.assertEqual(self.shunt.asked()[0]["target"], OBJECT)

    def test_a_put_with_x_copy_from_is_the_same(self):
        self.swift_copies_nothing()
        self.shunt.answers = [self.archived]
        got = ask(self.filter, "PUT", "/v1/AUTH_a/d/copied", X_COPY_FROM="/c/o%20%C3%A9", X_FRESH_METADATA="true",
                  CONTENT_TYPE="text/new")
        self.expect_copy(got, CONTENT_TYPE="text/new", HTTP_X_OBJECT_META_A=None, HTTP_CONTENT_DISPOSITION=None)
        self.assertEqual(self.shunt.asked()[0]["target"], "/v1/AUTH_a/c/o%20%C3%A9")
        self.assertEqual(got.header("X-Copied-From"), "c/o%20%C3%A9")

    def test_a_source_that_the_client_may_not_read_stays_unread(self):
        self.swift_copies_nothing()
        for status in (200, 401, 403, 500):
            self.swift.on("HEAD", OBJECT, status)
            got = ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied")
            self.assertEqual(got.status, 404)
        self.assertEqual(self.shunt.asked(), [])

    def test_a_destination_that_the_client_may_not_write_stays_unwritten(self):
        self.swift_copies_nothing()
        self.swift.on("PUT", "/v1/AUTH_a/d/copied", 403)
        self.shunt.answers = [self.archived]
        self.assertEqual(ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied").status, 403)

    def test_a_source_that_breaks_makes_no_object(self):
        self.swift_copies_nothing()
        def swift(env, start_response):
            if env["REQUEST_METHOD"] == "PUT":
                try:
                    while env["wsgi.input"].read(65536):
                        pass
                    status = "201 Created"
                except OSError:
                    status = "499 Client Disconnect"
                start_response(status, [("Content-Length", "0")])
                return []
            start_response("404 Local", [("Content-Length", "0")])
            return []
        self.filter.app = swift
        self.shunt.answers = [always(reply(200, b"half", length=9, Connection="close"))]
        self.assertEqual(ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied").status, 503)

    def test_what_cannot_be_copied_is_refused(self):
        self.swift_copies_nothing()
        self.shunt.answers = [self.archived]
        self.shunt.answers = [always(reply(200, length=6 << 30, Connection="close"))]
        self.assertEqual(ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied").status, 413)
        self.shunt.answers = [always(reply(412))]
        self.assertEqual(ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied").status, 412)
        self.shunt.answers = [PASS]
        self.assertEqual(ask(self.filter, "COPY", OBJECT, DESTINATION="d/copied").status, 404)

    def test_manifests_are_copied_as_manifests(self):
        self.swift_copies_nothing()
        for header, expected in (("X_Static_Large_Object", "multipart-manifest=put"), ("X_Object_Manifest", "")):
            self.shunt.answers = [always(reply(200, b"[]", Etag="abc", **{header: "True"}))]
            got = ask(self.filter, "COPY", OBJECT, "multipart-manifest=get", DESTINATION="d/copied")
            self.assertEqual(got.status, 201)
            env = self.swift.requests[-1]
            self.assertEqual(env["QUERY_STRING"], expected)
            self.assertEqual(env.get("HTTP_X_OBJECT_MANIFEST"), None if expected else "True")
            self.assertEqual(self.shunt.asked()[-1]["target"], OBJECT + "?multipart-manifest=get&format=raw")

    def test_odd_copies_are_left_to_swift(self):
        for headers in ({}, {"DESTINATION": "d"}, {"DESTINATION": "/"}, {"DESTINATION": "d/o", "DESTINATION_ACCOUNT": "a/b"}):
            self.assertEqual(ask(self.filter, "COPY", "/v1/AUTH_b/c/o", **headers).status, 404)
        self.assertEqual(ask(self.filter, "PUT", OBJECT, X_COPY_FROM="x").status, 404)
        self.assertEqual(self.shunt.asked(), [])


if __name__ == "__main__":
    unittest.main()
