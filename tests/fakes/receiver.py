"""An HTTP server on loopback that answers what a test scripts and remembers what it was sent.

    with Receiver() as receiver:
        receiver.answers(Answer(status=500), Answer(status=200))
        …post to receiver.url…
        assert receiver.wait_for(2)[0].headers["webhook-id"]

Without a script it answers 200 with an empty body.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass(frozen=True)
class Received:
    """`headers` with lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """`body` in one piece, or as `chunks` that may take their time. `length`: a Content-Length that may lie.

    `hold`: called before the first byte is sent, e.g. the `wait` of a threading.Event.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Iterable[bytes] | None = None
    length: int | None = None
    hold: Callable[[], object] | None = None


class Receiver:
    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.closing = threading.Event()
        self._script: deque[Answer] = deque()
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answers(self, *answers: Answer) -> None:
        """The next answers, in order; then 200 again."""
        self._script.extend(answers)

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Received]:
        """All requests so far, once there are `count` of them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise AssertionError(f"{len(self.requests)} of {count} requests within {timeout_s} s")
            return list(self.requests)

    def _receive(self, request: Received) -> Answer:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
            return self._script.popleft() if self._script else Answer()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver._receive(Received(self.command, self.path, headers, body))
                if answer.hold:
                    answer.hold()
                self._send(answer)

            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST  # noqa: N815 - named by http.server

            def _send(self, answer: Answer) -> None:
                chunked = answer.chunks is not None and answer.length is None
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if chunked:
                    self.close_connection = True
                else:
                    length = len(answer.body) if answer.length is None else answer.length
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                for chunk in [answer.body] if answer.chunks is None else answer.chunks:
                    self.wfile.write(chunk)
                if answer.length is not None:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler
