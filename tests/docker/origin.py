"""The origin of the tests with containers: counts its requests, and sends a body as slowly as it is told.

/x                     fresh for a minute
/slow?seconds=S        1 MiB without a lifetime, in S seconds
any other path         200 and a validator, but no lifetime, as package servers often do: the file of that path in
                       /srv where there is one; 404 in a folder of it where there is none
Every response says in X-Count how often its path was asked for.
"""

import http.server
import pathlib
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

ASKED = Counter()
STEPS = 64
STEP = bytes(range(256)) * 64


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        target = urlsplit(self.path)
        ASKED[target.path] += 1
        slow = target.path == "/slow"
        body = STEP * STEPS if slow else b"content of " + target.path.encode()
        file = pathlib.Path("/srv" + target.path)
        missing = target.path.count("/") > 1 and file.parent.is_dir() and not file.is_file()
        if file.is_file():
            body = file.read_bytes()
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Count", str(ASKED[target.path]))
        if slow:
            self.send_header("Cache-Control", "no-store")
        elif target.path == "/x":
            self.send_header("Cache-Control", "max-age=60")
        else:
            self.send_header("ETag", '"1"')
        self.end_headers()
        if not slow:
            self.wfile.write(body)
            return
        pause = float(parse_qs(target.query)["seconds"][0]) / STEPS
        for _ in range(STEPS):
            self.wfile.write(STEP)
            time.sleep(pause)


http.server.ThreadingHTTPServer(("", 8080), Origin).serve_forever()
