"""What stands in front of an application that is deployed without a pause: requests go to the instances that are listed.

An instance is taken off the list before it is stopped, and what it is at is waited for; so no request meets one that ends.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dbmigrate.store.child_server import ChildServer


class StoreFront:
    """A context manager; ``base_url`` is where customers come in."""

    def __init__(self) -> None:
        self._instances: list[ChildServer] = []
        self._busy: dict[int, int] = {}
        self._turn = itertools.count()
        self._lock = threading.Lock()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                front.pass_on(self)

            do_GET = do_POST = do_PATCH = _pass_on  # noqa: N815  # the names are http.server's

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StoreFront:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, instance: ChildServer) -> None:
        """Send requests to it as well."""
        with self._lock:
            self._instances.append(instance)
            self._busy[instance.port] = 0

    def retire(self, instance: ChildServer) -> None:
        """Send it no more requests, let it finish, and stop it."""
        with self._lock:
            self._instances.remove(instance)
        while self._busy[instance.port]:
            time.sleep(0.01)
        instance.stop()

    def pass_on(self, request: BaseHTTPRequestHandler) -> None:
        """One request to one instance, and its answer back."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            port = self._instances[next(self._turn) % len(self._instances)].port
            self._busy[port] += 1
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request(request.command, request.path, body or None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
        finally:
            with self._lock:
                self._busy[port] -= 1
        request.send_response(answer.status)
        request.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
