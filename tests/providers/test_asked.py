"""The connections to providers, by what a server of ours sees of them: an order leaves once, whatever happens to it."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from apps.providers import asked, http
from apps.providers.errors import ErrorKind, ProviderError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BODY = b'{"prompt": "a fox"}'


class Server:
    """Answers the requests of each connection with what it was told, in order, then closes that connection."""

    def __init__(self, *connections: Sequence[bytes]) -> None:
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1/orders"
        self._thread = threading.Thread(target=self._serve, args=(connections,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._listening.close()
        self._thread.join(5)

    def _serve(self, connections: Sequence[Sequence[bytes]]) -> None:
        for answers in connections:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                for answer in answers:
                    if request := _request(client):
                        self.requests.append(request)
                        client.sendall(answer)


def _request(client: socket.socket) -> bytes:
    seen = b""
    while BODY not in seen and (piece := client.recv(65_536)):
        seen += piece
    return seen


def order(server: Server, **headers: str) -> http.Answer:
    return http.exchange("POST", server.url, headers=headers, content=BODY)


@pytest.fixture(autouse=True)
def _no_connection_is_kept() -> Iterator[None]:
    asked.forget()
    yield
    asked.forget()


def test_orders_share_a_connection_that_is_kept() -> None:
    with closing(Server([OK, OK])) as server:
        assert [order(server).status, order(server).status] == [200, 200]
    assert [request.count(b"POST /v1/orders HTTP/1.1\r\n") for request in server.requests] == [1, 1]
    assert b"content-length: %d\r\n" % len(BODY) in server.requests[0]


def test_a_kept_connection_that_the_provider_closed_is_not_used() -> None:
    with closing(Server([OK], [OK])) as server:
        order(server)
        server_closed = asked._idle[asked._target(server.url).origin][0].connection.sock
        assert server_closed.recv(1) == b""
        assert order(server).status == 200
    assert len(server.requests) == 2


def test_an_order_whose_kept_connection_dies_is_sent_once() -> None:
    with closing(Server([OK, b""], [OK])) as server:
        order(server)
        with pytest.raises(ProviderError) as lost:
            order(server)
        assert lost.value.kind == ErrorKind.AMBIGUOUS
        assert len(server.requests) == 2


def test_a_word_before_the_answer_is_not_taken_for_the_answer() -> None:
    with closing(Server([b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK])) as server:
        with pytest.raises(ProviderError) as unread:
            order(server)
        assert unread.value.kind == ErrorKind.AMBIGUOUS


def test_a_header_that_can_not_be_written_is_proven_unsent() -> None:
    with closing(Server([OK], [OK])) as server:
        with pytest.raises(ProviderError) as unsent:
            order(server, authorization="two\nlines")
        assert unsent.value.kind == ErrorKind.CONNECT
        assert order(server).status == 200
    assert len(server.requests) == 1
    assert b"two" not in server.requests[0]
