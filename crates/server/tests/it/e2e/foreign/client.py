"""Asks what a list of cases says, with one of Python's clients, each case over a connection of its own, and prints what
came: client.py CASES httpx 1 | httpx 2 | http.client"""

import http.client
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit


def by_httpx(case, body):
    import httpx

    second = sys.argv[3] == "2"
    # Without TLS httpx speaks HTTP/2 where it is told nothing else.
    with httpx.Client(http1=not second, http2=second, timeout=60) as client:
        headers = case["headers"] | ({"content-length": "0"} if body == b"" else {})
        answer = client.request(case["method"], case["url"], headers=headers, content=body)
        return answer.status_code, answer.content


def by_http_client(case, body):
    url = urlsplit(case["url"])
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.request(case["method"], f"{url.path}?{url.query}" if url.query else url.path, body, case["headers"])
    answer = connection.getresponse()
    return answer.status, answer.read()


for case in json.loads(Path(sys.argv[1]).read_text()):
    body = Path(case["body"]).read_bytes() if case["body"] else None
    try:
        status, content = (by_httpx if sys.argv[2] == "httpx" else by_http_client)(case, body)
        print(json.dumps({"status": status, "lines": content.count(b"\n")}))
    except Exception as error:
        print(json.dumps({"status": repr(error)}))
