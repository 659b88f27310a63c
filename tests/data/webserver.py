"""A web server on this machine that serves a folder, and can misbehave as real ones do."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """What a server does and has seen.

    Attributes:
        files: content by path, e.g. ``/a/b.txt``.
        url: of the root, without a slash at the end.
        asked: path and range of each request.
        ranges: whether it can begin in the middle.
        breaks: how many of the next answers end half-way.
        codes: status to answer the next requests with, first one first.
        length: whether it says how long a file is.
    """

    def __init__(self):
        self.files, self.asked, self.codes = {}, [], []
        self.ranges, self.length, self.breaks, self.url = True, True, 0, ""

    @property
    def paths(self):
        return [path for path, _ in self.asked]


@contextmanager
def serving():
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            web.asked.append((self.path, wanted))
            content = web.files.get(self.path)
            if web.codes or content is None:
                self.send_error(web.codes.pop(0) if web.codes else 404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if wanted and web.ranges else None
            start = int(asked[1]) if asked else 0
            if asked and asked[2]:  # as GDAL asks
                self._send_part(content, start, int(asked[2]) + 1)
                return
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if web.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            sent = content[start:]
            if web.breaks:
                web.breaks -= 1
                sent = sent[: len(sent) // 2]
            self.wfile.write(sent)

        def _send_part(self, content, start, end):
            part = content[start:end]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)

        def do_HEAD(self):
            web.asked.append((self.path, None))
            content = web.files.get(self.path)
            self.send_response(404 if content is None else 200)
            if content is not None:
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
