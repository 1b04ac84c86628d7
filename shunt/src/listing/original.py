"""Swift's own code answers what the tests ask: one JSON document a line in, one out."""

import json
import sys
import tempfile

from swift.common.middleware.listing_formats import container_to_xml, listing_to_text
from swift.common.swob import Accept
from swift.common.utils import Timestamp
from swift.container.backend import ContainerBroker

TYPES = ["text/plain", "application/json", "application/xml", "text/xml"]


def listings(names, queries):
    with tempfile.TemporaryDirectory() as folder:
        broker = ContainerBroker(folder + "/c.db", account="a", container="c")
        broker.initialize(Timestamp(1).internal, 0)
        broker.merge_items([{
            "name": name, "created_at": Timestamp(2).internal, "size": 1, "content_type": "t/p", "etag": "e",
            "deleted": 0, "storage_policy_index": 0} for name in names])
        answers = []
        for query in queries:
            try:
                rows = broker.list_objects_iter(
                    query["limit"], query["marker"], query["end_marker"], query["prefix"] or None,
                    query["delimiter"] or None, query["path"], reverse=query["reverse"])
                answers.append([[row[0], row[3] is None] for row in rows])
            except (ValueError, UnicodeEncodeError):
                # The character after the last one, or a surrogate: Swift answers 500.
                answers.append(None)
        return answers


def accepted(header):
    try:
        return Accept(header).best_match(TYPES)
    except ValueError:
        return None


def formats(lines, container):
    return {
        "json": json.dumps(lines),
        "text": listing_to_text(lines).decode("utf-8"),
        "xml": container_to_xml([dict(line) for line in lines], container).decode("utf-8"),
    }


for line in sys.stdin:
    question = json.loads(line)
    if "names" in question:
        answer = listings(question["names"], question["queries"])
    elif "accept" in question:
        answer = [accepted(header) for header in question["accept"]]
    else:
        answer = formats(question["lines"], question["container"])
    print(json.dumps(answer), flush=True)
