"""The connections to providers, by what a server of ours sees of them: an order leaves once, whatever happens to it."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from apps.providers import asked, http, wire
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
                        # Who has read enough does not wait for the rest.
                        with suppress(ConnectionError):
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
        server_closed = asked._idle[asked._target(server.url)[0]][0].connection
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


def test_words_before_the_answer_are_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    with closing(Server([early + early + OK, OK])) as server:
        assert [order(server).body, order(server).status] == [b"{}", 200]


def test_a_header_that_can_not_be_written_is_proven_unsent() -> None:
    with closing(Server([OK], [OK])) as server:
        with pytest.raises(ProviderError) as unsent:
            order(server, authorization="two\nlines")
        assert unsent.value.kind == ErrorKind.CONNECT
        assert order(server).status == 200
    assert len(server.requests) == 1
    assert b"two" not in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1;a=b\r\n{\r\n01\r\n}\r\n0\r\nx: y\r\n\r\n",
            b"{}",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["length", "chunks", "nothing"],
)
def test_an_answer_that_is_whole_leaves_its_connection(answer: bytes, body: bytes) -> None:
    with closing(Server([answer, OK])) as server:
        assert [order(server).body, order(server).body] == [body, b"{}"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 2\r\n\r\n{}",
        OK + OK,
        OK + b"x",
    ],
    ids=["no length", "1.0", "closes", "two", "rubbish"],
)
def test_an_answer_after_which_nothing_can_be_told_apart_is_the_last_of_its_connection(answer: bytes) -> None:
    with closing(Server([answer], [OK])) as server:
        assert order(server).body == b"{}"
        assert not any(asked._idle.values())
        assert order(server).body == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_beyond_doubt_is_ambiguous_and_the_last_of_its_connection(
    answer: bytes,
) -> None:
    with closing(Server([answer])) as server:
        with pytest.raises(ProviderError) as unread:
            order(server)
        assert unread.value.kind == ErrorKind.AMBIGUOUS
        assert not any(asked._idle.values())


@pytest.mark.parametrize(
    "head",
    [b"content-length: 2000001", b"transfer-encoding: chunked", b"x: y"],
    ids=["length", "chunks", "end"],
)
def test_a_body_beyond_the_limit_is_not_read_to_its_end(head: bytes) -> None:
    body = b"1e8481\r\n" * (b"chunked" in head) + b"a" * 2_000_001
    with closing(Server([b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body])) as server:
        with pytest.raises(ProviderError) as large:
            order(server)
        assert large.value.kind == ErrorKind.MALFORMED


def test_an_answer_that_comes_byte_by_byte_is_the_same() -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nx: y\r\n\r\n"
    # Each packet is read as it was sent.
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        for byte in answer:
            there.send(bytes([byte]))
        body = bytearray()
        read = wire.answer(here, take=body.extend, max_bytes=100, ends_at=time.monotonic() + 60)
    assert (read.status, read.kept, bytes(body)) == (200, True, b"{}")


def test_what_comes_after_the_end_of_time_is_not_read() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(OK)
        with pytest.raises(TimeoutError):
            wire.answer(here, take=bytearray().extend, max_bytes=100, ends_at=time.monotonic() - 1)


def test_an_answer_that_came_while_others_were_read_is_read_however_late(settings: Any) -> None:
    settings.PROVIDER_READ_TIMEOUT_S = 0.1
    with closing(Server([OK])) as server:
        # The server takes a request for whole when it has seen this.
        read = http.ask(server.url, headers={"x": BODY.decode()})
        time.sleep(0.2)
        assert read().body == b"{}"


def test_several_are_asked_over_a_connection_each_and_in_any_order_each_reads_its_own() -> None:
    answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number for number in range(3)]
    servers = [Server([answer]) for answer in answers]
    with closing(servers[0]), closing(servers[1]), closing(servers[2]):
        reads = [http.ask(server.url, headers={"x": BODY.decode()}) for server in servers]
        assert [read().body for read in reversed(reads)] == [b"2", b"1", b"0"]
