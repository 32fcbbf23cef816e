"""A server on localhost that gives files with byte ranges, and misbehaves when asked to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """files: path -> bytes. cut_after: bytes after which an answer breaks off, for the next `cuts` answers.

    requests: (path, Range header) of every GET; ranges: False for a server that does not know them.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut_after = 0
        self.cuts = 0
        self.ranges = True
        self.refuse_next = 0
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0
        self.url = ""


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[FileServer]:
    state = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range")))
            if state.refuse_next:
                state.refuse_next -= 1
                self.send_error(503)
                return
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            data = state.files.get(self.path.lstrip("/"))
            if data is None:
                self.send_error(404)
                return
            wanted = self.headers.get("Range") if state.ranges else None
            first, last = 0, len(data) - 1
            if wanted is not None:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(start), min(last, int(end)) if end else last
                if first >= len(data):
                    self.send_error(416)
                    return
            part = data[first : last + 1]
            self.send_response(200 if wanted is None else 206)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if not body:
                return
            if state.cuts:
                state.cuts -= 1
                part = part[: state.cut_after]
            state.sent += len(part)
            self.wfile.write(part)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
