"""A proxy before a server: it takes no large bodies, may hold or lose the server's answers, or be away."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from e2e.server_lab import Server


class Proxy(ThreadingHTTPServer):
    """Hands requests to a server, but answers 413 for bodies above `most` bytes, in words of its own.

    `passes` is called with the path of a request that the server has answered; where it says no, the answer is lost.
    While it is `away` no request reaches the server.
    """

    daemon_threads = True

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server
        self.most = 10**9
        self.refused = 0
        self.away = False
        self.passes: Callable[[str], bool] = lambda path: True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def proxied(server: Server) -> Iterator[Proxy]:
    """A proxy before the server, which runs until the block ends."""
    with Proxy(server) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        if self.server.away:
            self.close_connection = True
            return
        size = int(self.headers.get("Content-Length", 0))
        if size > self.server.most:
            self.server.refused += 1
            self.close_connection = True
            self.send_response(413)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "5")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"large")
            self.rfile.read(size)  # else the connection would be reset under the answer
            return
        with closing(http.client.HTTPConnection(self.server.server.host, self.server.server.port)) as to:
            to.request(self.command, self.path, self.rfile.read(size), dict(self.headers.items()))
            answer = to.getresponse()
            body = answer.read()
            if not self.server.passes(self.path):
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *_: object) -> None:
        """Nothing."""
