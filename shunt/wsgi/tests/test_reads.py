import unittest

from swift_s3_sync.connection import BrokenBody
from tests.fake_shunt import PASS, FakeShunt, FakeSwift, always, ask, make_filter, reply


#: An answer but for what is wrong with it.
START = b"HTTP/1.1 200 OK\r\nX-Shunt-Outcome: answer\r\n"


class Reads(unittest.TestCase):
    def setUp(self):
        self.shunt = FakeShunt()
        self.swift = FakeSwift()
        self.filter = make_filter(self.shunt, self.swift)

    def test_what_swift_has_comes_from_swift(self):
        for status in (200, 206, 304, 400, 401, 403, 412, 416, 500, 503):
            self.swift.on("GET", "/v1/AUTH_a/c/o", status, b"local")
            got = ask(self.filter, "GET", "/v1/AUTH_a/c/o")
            self.assertEqual((got.status, got.body), (status, b"local"))
        self.assertEqual(self.shunt.asked(), [])
        self.assertTrue(all(body.closed for body in self.swift.bodies))

    def test_an_archived_object_is_read_from_the_shunt(self):
        self.shunt.answers = [always(reply(
            200, b"remote", Etag="abc", X_Object_Meta_Colour="gr\xc3\xbcn", Remote_x_amz_request_id="1",
            X_Trans_Id="other", Date="then", Server="shunt", Keep_Alive="x", X_Backend_Thing="1",
            X_Object_Sysmeta_A="1", X_Shunt_Job="x"))]
        got = ask(self.filter, "GET", "/v1/AUTH_a/c/o\xc3\xa9 \x25/../p", "a=b c&temp_url_sig=s&format=raw",
                  RANGE="bytes=0-1", IF_MATCH='"abc"', X_AUTH_TOKEN="secret", AUTHORIZATION="secret", COOKIE="secret")
        self.assertEqual((got.status, got.body), (200, b"remote"))
        names = {name.lower() for name, _ in got.headers}
        self.assertEqual(names, {"content-length", "etag", "x-object-meta-colour", "remote-x-amz-request-id"})
        self.assertEqual(got.header("x-object-meta-colour"), "gr\xc3\xbcn")
        asked = self.shunt.asked()[0]
        self.assertEqual((asked["method"], asked["target"]),
                         ("GET", "/v1/AUTH_a/c/o%C3%A9%20%25/../p?a=b%20c&format=raw"))
        headers = asked["headers"]
        self.assertEqual((headers["x-shunt-step"], headers["range"], headers["if-match"], headers["x-trans-id"]),
                         ("miss", "bytes=0-1", '"abc"', "tx1"))
        self.assertNotIn("secret", str(headers))
        self.assertTrue(self.swift.bodies[0].closed)

    def test_the_shunt_is_told_of_the_trace_and_of_swifts_own_id(self):
        self.shunt.answers = [PASS]
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ask(self.filter, "GET", "/v1/AUTH_a/c/o", TRACEPARENT=trace, TRACESTATE="vendor=1")
        ask(self.filter, "GET", "/v1/AUTH_a/c/o")
        traced, plain = (asked["headers"] for asked in self.shunt.asked())
        self.assertEqual((traced["traceparent"], traced["tracestate"], traced["x-trans-id"]), (trace, "vendor=1", "tx1"))
        self.assertEqual([name for name in plain if name.startswith("trace")], [])

    def test_head_has_a_length_and_no_body(self):
        self.shunt.answers = [always(reply(200, length=10))]
        got = ask(self.filter, "HEAD", "/v1/AUTH_a/c/o")
        self.assertEqual((got.status, got.body, got.header("Content-Length")), (200, b"", "10"))

    def test_swifts_404_stands_where_the_remote_has_nothing(self):
        self.shunt.answers = [PASS]
        got = ask(self.filter, "GET", "/v1/AUTH_a/c/o")
        self.assertEqual((got.status, got.body, got.header("X-Local")), (404, b"<html>local 404</html>", "yes"))

    def test_what_is_not_mapped_is_not_asked_about(self):
        for path in ("/v1/AUTH_a/d/o", "/v1/AUTH_c/c/o", "/v1/AUTH_a", "/v1/AUTH_a/", "/v2/AUTH_a/c/o", "/info", "/", "",
                     "v1/AUTH_a/c/o", "/v1//c/o", "/v1/AUTH_a//o", "/v1/AUTH_a/c\xff/o"):
            self.assertEqual(ask(self.filter, "GET", path).status, 404)
        got = ask(self.filter, "GET", "/v1/AUTH_a/c/o", X_CLOUD_SYNC_SHUNT_BYPASS="1")
        self.assertEqual(got.status, 404)
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o", "version-id=1").status, 404)
        self.assertEqual(self.shunt.asked(), [])

    def test_a_mapping_of_an_account_holds_for_all_its_containers(self):
        self.shunt.answers = [always(reply(200, b"x"))]
        for container in ("one", "two"):
            self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_b/%s/o" % container).body, b"x")

    def test_if_match_any_asks_the_remote_although_swift_says_412(self):
        def swift(env, start_response):
            status = "412 Local" if env.get("HTTP_IF_MATCH") else "404 Local"
            start_response(status, [("Content-Length", "0")])
            return []
        shunted = make_filter(self.shunt, swift)
        self.shunt.answers = [always(reply(200, b"remote")), PASS]
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o", IF_MATCH="*").body, b"remote")
        self.assertEqual(self.shunt.asked()[0]["headers"]["if-match"], "*")
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o", IF_MATCH="*").status, 412)

    def test_a_body_that_breaks_is_never_a_whole_one(self):
        chunked = b"HTTP/1.1 200 OK\r\nX-Shunt-Outcome: answer\r\nTransfer-Encoding: chunked\r\n\r\n"
        for broken in (reply(200, b"half", length=10, Connection="close"),
                       chunked.replace(b"chunked", b"chunked\r\nConnection: close") + b"4\r\nhalf\r\n",
                       chunked + b"4\r\nhalfXX0\r\n\r\n", chunked + b"4\r\nhalf\r\nzz\r\n\r\n"):
            self.shunt.answers = [always(broken)]
            with self.assertRaises(BrokenBody):
                ask(self.filter, "GET", "/v1/AUTH_a/c/o")

    def test_chunked_bodies_arrive_whole(self):
        self.shunt.answers = [always(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Shunt-Outcome: answer\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4\r\nhalf\r\n5;x=y\r\n more\r\n0\r\nTrailer: x\r\n\r\n")]
        for _ in range(3):
            self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").body, b"half more")
        self.assertEqual(self.shunt.connections, 1)

    def test_without_the_shunt_a_mapped_404_is_a_503_and_all_else_is_as_before(self):
        self.shunt.answers = [PASS]
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").status, 404)
        self.swift.on("GET", "/v1/AUTH_a/c/here", 200, b"local")
        for stop in (self.shunt.stop, lambda: None):
            stop()
            self.filter.client.idle.clear()
            got = ask(self.filter, "GET", "/v1/AUTH_a/c/o")
            self.assertEqual((got.status, got.header("Retry-After")), (503, "5"))
            self.assertIn(b"archive", got.body)
            self.assertEqual(ask(self.filter, "HEAD", "/v1/AUTH_a/c/o").body, b"")
            self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/here").body, b"local")
            self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/d/o").status, 404)
        self.shunt.listen()
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").status, 404)

    def test_where_a_link_leads_is_what_is_missing(self):
        def swift(env, start_response):
            location = {"/v1/AUTH_a/c/link": "/v1/AUTH_a/c/t%20o?x=y", "/v1/AUTH_a/c/away": "/v1/AUTH_z/c/o"}
            headers = [("Content-Location", location[env["PATH_INFO"]]), ("Content-Length", "0")]
            start_response("404 Local", headers)
            return []
        shunted = make_filter(self.shunt, swift)
        self.shunt.answers = [always(reply(200, b"linked"))]
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/link").body, b"linked")
        self.assertEqual(self.shunt.asked()[0]["target"], "/v1/AUTH_a/c/t%20o")
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/away").status, 404)
        self.assertEqual(len(self.shunt.asked()), 1)
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/link", "symlink=get").status, 404)

    def test_an_answer_that_is_none_is_a_503(self):
        for wrong in (None, reply(500, b"broken", outcome=""), b"SSH-2.0-x\r\n", START + b"\r\nendless",
                      START + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                      START + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                      START + b"Content-Length: -1\r\n\r\n", START + b"no colon\r\n\r\n",
                      START + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
                      START + b"X: y\r\n" * 400 + b"Content-Length: 0\r\n\r\n",
                      START + b"X: " + b"y" * 300000 + b"\r\n\r\n"):
            self.shunt.answers = [lambda request, wrong=wrong: wrong]
            self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").status, 503, wrong and wrong[:60])

    def test_an_object_with_much_metadata_is_read(self):
        headers = {"X-Object-Meta-%d" % number: "v" * 200 for number in range(200)}
        self.shunt.answers = [always(reply(200, b"x", **headers))]
        got = ask(self.filter, "GET", "/v1/AUTH_a/c/o")
        self.assertEqual(len([name for name, _ in got.headers if name.startswith("X-Object-Meta")]), 200)

    def test_nothing_can_be_put_between_the_headers(self):
        self.shunt.answers = [PASS]
        ask(self.filter, "GET", "/v1/AUTH_a/c/o HTTP/1.1\r\nX-Shunt-Step: after\r\n\r\n", "q=a\r\nX-Evil: 1",
            RANGE="bytes=0-1\r\nX-Evil: 1")
        asked = self.shunt.asked()
        self.assertEqual(len(asked), 1)
        self.assertNotIn("x-evil", asked[0]["headers"])
        self.assertEqual(asked[0]["target"],
                         "/v1/AUTH_a/c/o%20HTTP/1.1%0D%0AX-Shunt-Step%3A%20after%0D%0A%0D%0A?q=a%0D%0AX-Evil:%201")

    def test_browsers_of_other_origins_may_read_what_swift_allows(self):
        def swift(env, start_response):
            start_response("404 Local", [
                ("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "etag"), ("Content-Length", "0")])
            return []
        self.shunt.answers = [always(reply(200, b"x", X_Object_Meta_A="1"))]
        got = ask(make_filter(self.shunt, swift), "GET", "/v1/AUTH_a/c/o", ORIGIN="http://b")
        self.assertEqual(got.header("Access-Control-Allow-Origin"), "*")
        self.assertEqual(got.header("Access-Control-Expose-Headers"), "etag, x-object-meta-a")

    def test_a_connection_that_the_shunt_closed_meanwhile_is_replaced(self):
        self.shunt.answers = [PASS, lambda request: None, always(reply(200, b"again"))]
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").status, 404)
        # It closes without a word on the connection that was idle; on a fresh one that would be an error.
        self.assertEqual(ask(self.filter, "GET", "/v1/AUTH_a/c/o").body, b"again")

    def test_accounts_of_proxyfs_are_for_the_other_instance(self):
        self.shunt.answers = [always(reply(200, b"x"))]
        for handles, bimodal, status in (("false", "true", 404), ("false", "", 200), ("true", "true", 200), ("true", "", 404)):
            shunted = make_filter(self.shunt, self.swift, handle_proxyfs=handles)
            shunted.account_info = lambda env, app, swift_source: {"sysmeta": {"proxyfs-bimodal": bimodal}}
            self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o").status, status, (handles, bimodal))


class Containers(unittest.TestCase):
    def test_a_list_that_is_wrong_leaves_the_last_one_in_force(self):
        shunt, swift = FakeShunt(), FakeSwift()
        shunt.answers = [always(reply(200, b"x"))]
        shunted = make_filter(shunt, swift)
        now = [0.0]
        shunted.containers.clock = lambda: now[0]
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o").status, 200)
        for wrong in (b"{", b"[]", b"{}", b'{"containers": {}}', b'{"containers": [["a"]]}', b'{"containers": [[1, 2]]}'):
            now[0] += 6
            shunted.containers.etag = None
            shunt.containers = wrong
            self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o").status, 200, wrong)
        now[0] += 6
        shunt.containers = b'{"containers": []}'
        self.assertEqual(ask(shunted, "GET", "/v1/AUTH_a/c/o").status, 404)

    def test_the_list_is_asked_for_once_in_a_while_only(self):
        shunt, swift = FakeShunt(), FakeSwift()
        shunted = make_filter(shunt, swift)
        now = [0.0]
        shunted.containers.clock = lambda: now[0]
        for _ in range(10):
            now[0] += 1
            ask(shunted, "GET", "/v1/AUTH_a/d/o")
        self.assertEqual(len(shunt.requests), 2)
        self.assertEqual(shunt.requests[1]["headers"]["if-none-match"], '"1"')

    def test_a_proxy_that_starts_without_the_shunt_has_the_list_of_the_last_one(self):
        shunt, swift = FakeShunt(), FakeSwift()
        kept = shunt.path + ".kept"
        ask(make_filter(shunt, swift, containers_file=kept), "GET", "/v1/AUTH_a/d/o")
        shunt.stop()
        later = make_filter(shunt, swift, containers_file=kept)
        self.assertEqual(ask(later, "GET", "/v1/AUTH_a/c/o").status, 503)
        self.assertEqual(ask(later, "GET", "/v1/AUTH_a/d/o").status, 404)
        without = make_filter(shunt, swift)
        self.assertEqual(ask(without, "GET", "/v1/AUTH_a/c/o").status, 404)


if __name__ == "__main__":
    unittest.main()
