"""Where the platform will and will not connect, and how much it will take from the other side."""

import gzip
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import override_settings

from apps.core import http
from tests.fakes.receiver import Answer, Receiver

PUBLIC = [
    "https://example.com",
    "https://example.com/",
    "https://EXAMPLE.com/hook?a=1&b=%20",
    "https://example.com:443/x",
    "https://example.com:8443/x",
    "https://a-b.c_d.example.com/x",
    "https://xn--bcher-kva.example.com/",
    "https://example.com/#fragment",
    "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/",
    "https://[64:ff9b::808:808]/",
    "https://example.com?x=1",
    "https://1.2.3.4.example.com/",
]

LOOPBACK = [
    "http://127.0.0.1/",
    "http://127.0.0.1:8080/hook",
    "http://localhost:8080/hook",
    "http://LOCALHOST:8080/hook",
    "http://[::1]:8080/hook",
    "https://127.255.255.254/",
]

UNSAFE_HOSTS = [
    # private and special IPv4
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "100.100.100.200", "168.63.129.16",
    # other spellings of IPv4
    "2130706433", "3232235521", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0X7F.0.0.1",
    "017700000001", "0177.0.0.1",
    "0177.1", "127.1", "127.0.1", "127.0.0.01", "127.0.0.1.", "010.0.0.1", "00.0.0.0", "8.8.8.8.",
    "134744072",
    "8.8.8", "1.1", "256.0.0.1", "127.0.0.1.1", "1.2.3.4.5", "0x", "0xffffffffff", "4294967296",
    "127.0.0.0x1",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "127．0．0．1", "٣.٣.٣.٣",
    # IPv6
    "[::]", "[0:0:0:0:0:0:0:0]", "[fe80::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]", "[fc00::1]", "[fd00::1]",
    "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]",
    "[2001:10::1]", "[4000::1]", "[1::1]",
    # IPv4 inside IPv6
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
    "[::7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::1]",
    "[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[2002:c0a8:1::1]", "[2001:0:0:0:0:0:0:0]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    # malformed IPv6
    "[::1", "::1]", "[::1]x", "[]", "[127.0.0.1]", "[::1.2.3]", "[:::]", "[1:2:3:4:5:6:7:8:9]",
    "[v1.fe80::1]",
    # names that lead inward
    "localhost", "localhost.", "foo.localhost", "foo.local", "redis", "metadata", "metadata.google.internal",
    "router.lan", "nas.home", "x.home.arpa", "vault.corp", "wiki.intranet",
    "localhost.localdomain", "db.private",
    # not names
    "", ".", "..", "a..com", ".example.com", "example.com.", "-a.com", "a-.com", "a b.com", "exa\tmple.com",
    "exam%70le.com", "127.0.0.1%00.example.com", "a" * 64 + ".com", ".".join(["a" * 50] * 6),
    "bücher.example.com",
    "ex\u00adample.com", "example\u3002com", "ℂom.com", "a,b.com", "a*b.com", "a!b.com", "example.com\u200b",
]  # fmt: skip

UNSAFE_URLS = [
    "", "https", "https:", "https:/", "https://", "https:///x", "//example.com/", "example.com", "/relative",
    "http://example.com/", "http://8.8.8.8/", "ftp://example.com/", "file:///etc/passwd",
    "gopher://example.com/",
    "data:text/plain,x", "javascript:alert(1)", "unix:///tmp/x", "ws://example.com/", "https+unix://x/",
    "https://user@example.com/", "https://user:secret@example.com/", "https://@example.com/",
    "https://example.com@127.0.0.1/", "https://127.0.0.1#@example.com/", "https://127.0.0.1\\@example.com/",
    "https://example.com\\@127.0.0.1/", "https:\\\\example.com/", "https://example.com\\x",
    "https://example.com:/", "https://example.com:0/", "https://example.com:22/", "https://example.com:25/",
    "https://example.com:1023/", "https://example.com:65536/", "https://example.com:99999/",
    "https://example.com:-1/", "https://example.com:+80/", "https://example.com:8 0/",
    "https://example.com:٨٠/",
    "https://example.com:443:443/", "https://example.com:port/", "https://example.com /",
    " https://example.com/",
    "https://example.com/ ", "https://example.com/a b", "https://example.com/\r\nHost: x",
    "https://example.com/\n",
    "https://example.com/\x00", "https://example.com/\t", "https://exam\nple.com/",
    "\x00https://example.com/",
    "https://example.com/\x7f", "https://example.com/ü", "https://example.com/\u202e",
    "https://example.com/\ud800",
    "https://example.com/#\n", "https://example.com/" + "a" * 2030,
]  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with override_settings(ALLOW_LOOPBACK_TARGETS=True), Receiver() as running:
        yield running


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`resolver("1.2.3.4", …)`: the answers to the coming lookups; returns the list of names asked for."""

    def answer(*lookups: list[str]) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
            asked.append(host)
            addresses = lookups[min(len(asked), len(lookups)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return answer


def get(url: str, *, max_bytes: int = 1_000_000, timeout_s: float = 5, **kwargs: Any) -> bytes:
    with http.download(url, max_bytes=max_bytes, timeout_s=timeout_s, **kwargs) as got:
        content = got.path.read_bytes()
        assert (got.size, got.sha256) == (len(content), sha256(content).hexdigest())
        return content


def post(url: str, *, timeout_s: float = 5, max_response_bytes: int = 100) -> http.Response:
    return http.post(url, body=b"{}", headers={}, timeout_s=timeout_s, max_response_bytes=max_response_bytes)


# --- Addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize("loopback_allowed", [True, False])
@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_https_url_passes(url: str, loopback_allowed: bool, settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = loopback_allowed
    http.check_url(url)


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_passes_in_development_only(url: str, settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    http.check_url(url)
    settings.ALLOW_LOOPBACK_TARGETS = False
    with pytest.raises(http.UnsafeUrl):
        http.check_url(url)


@pytest.mark.parametrize("host", [host for host in UNSAFE_HOSTS if host != "localhost"], ids=ascii)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_an_inner_or_odd_host_never_passes(scheme: str, host: str, settings: LazySettings) -> None:
    for settings.ALLOW_LOOPBACK_TARGETS in (True, False):
        with pytest.raises(http.UnsafeUrl):
            http.check_url(f"{scheme}://{host}/")


@pytest.mark.parametrize("url", UNSAFE_URLS, ids=ascii)
def test_an_odd_url_never_passes(url: str, settings: LazySettings) -> None:
    for settings.ALLOW_LOOPBACK_TARGETS in (True, False):
        if url.startswith("https://127.0.0.1#@") and settings.ALLOW_LOOPBACK_TARGETS:
            continue  # its host is 127.0.0.1, and the rest a fragment
        with pytest.raises(http.UnsafeUrl):
            http.check_url(url)


def test_a_name_that_resolves_to_a_private_address_is_refused(resolver: Any, settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = False
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "64:ff9b::7f00:1"):
        resolver([address])
        with pytest.raises(http.UnsafeUrl):
            post("https://rebind.example.com/")


def test_one_private_address_among_public_ones_refuses_the_name(
    resolver: Any, settings: LazySettings
) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = False
    resolver(["93.184.216.34", "10.0.0.1"])
    with pytest.raises(http.UnsafeUrl):
        post("https://mixed.example.com/")


def test_it_connects_to_the_address_it_checked_without_a_second_lookup(
    resolver: Any, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = False
    asked = resolver(["93.184.216.34"], ["127.0.0.1"])
    connected: list[Any] = []

    def create_connection(address: Any, *args: Any, **kwargs: Any) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    with pytest.raises(http.FetchFailed) as failed:
        post("https://rebind-late.example.com/")
    assert failed.value.kind == "connect"
    assert asked == ["rebind-late.example.com"]
    assert connected == [("93.184.216.34", 443)]


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(10) and [])
    started = time.monotonic()
    with pytest.raises(http.FetchFailed) as failed:
        post("https://slow-dns.example.com/", timeout_s=0.1)
    release.set()
    assert failed.value.kind == "timeout"
    assert time.monotonic() - started < 2


def test_an_unknown_name_fails_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(http.FetchFailed) as failed:
        post("https://nowhere.example.com/")
    assert failed.value.kind == "connect"


# --- POST -------------------------------------------------------------------------------------


def test_post_sends_the_body_and_returns_the_answer(receiver: Receiver) -> None:
    receiver.answers(Answer(status=201, headers={"X-Seen": "Yes"}, body=b"ok"))
    answer = http.post(
        f"{receiver.url}/hook?a=1", body=b'{"a": 1}', headers={"X-Id": "7"}, timeout_s=5, max_response_bytes=9
    )
    assert (answer.status, answer.headers["x-seen"], answer.body) == (201, "Yes", b"ok")
    request = receiver.requests[0]
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=1", b'{"a": 1}')
    assert (request.headers["x-id"], request.headers["host"]) == ("7", f"127.0.0.1:{receiver.port}")


def test_post_cuts_a_long_answer(receiver: Receiver) -> None:
    receiver.answers(Answer(chunks=(b"x" * 65_536 for _ in range(1_000_000))))
    assert post(receiver.url, max_response_bytes=10).body == b"x" * 10


def test_post_does_not_follow_a_redirect(receiver: Receiver) -> None:
    receiver.answers(Answer(status=307, headers={"Location": f"{receiver.url}/other"}))
    assert post(receiver.url).status == 307
    assert len(receiver.requests) == 1


def test_post_reuses_the_connection(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = []
    connect = socket.create_connection

    def create_connection(*args: Any, **kwargs: Any) -> socket.socket:
        connected.append(args)
        return connect(*args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    for _ in range(3):
        post(receiver.url)
    assert len(connected) == 1


def test_post_to_a_closed_port_fails_to_connect(settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(http.FetchFailed) as failed:
        post(f"http://127.0.0.1:{port}/")
    assert failed.value.kind == "connect"


def test_post_ends_at_its_deadline_when_nobody_answers(receiver: Receiver) -> None:
    receiver.answers(Answer(hold=lambda: receiver.closing.wait(10)))
    started = time.monotonic()
    with pytest.raises(http.FetchFailed) as failed:
        post(receiver.url, timeout_s=0.2)
    assert failed.value.kind == "timeout"
    assert time.monotonic() - started < 2


def test_a_certificate_that_nobody_vouches_for_is_refused(settings: LazySettings) -> None:
    """Verification stays on although the socket is connected to an address, not to a name."""
    settings.ALLOW_LOOPBACK_TARGETS = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("self_signed.pem"))

    def serve(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer, suppress(OSError):
            context.wrap_socket(peer, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        with pytest.raises(http.FetchFailed, match="CERTIFICATE_VERIFY_FAILED") as failed:
            post(f"https://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
    assert failed.value.kind == "connect"


# --- Downloads --------------------------------------------------------------------------------


def test_download_gives_a_file_that_is_deleted_afterwards(receiver: Receiver) -> None:
    receiver.answers(Answer(body=b"picture"))
    with http.download(f"{receiver.url}/a.png", max_bytes=7, timeout_s=5) as got:
        path: Path = got.path
        assert path.read_bytes() == b"picture"
        assert (got.size, got.sha256) == (7, sha256(b"picture").hexdigest())
    assert not path.exists()
    assert receiver.requests[0].headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(receiver.requests[0].headers)


def test_download_follows_three_redirects(receiver: Receiver) -> None:
    for hop in ("/b", f"{receiver.url}/c", f"http://localhost:{receiver.port}/d"):
        receiver.answers(Answer(status=302, headers={"Location": hop}))
    receiver.answers(Answer(body=b"end"))
    assert get(f"{receiver.url}/a") == b"end"
    assert [request.path for request in receiver.requests] == ["/a", "/b", "/c", "/d"]


def test_download_gives_up_at_the_fourth_redirect(receiver: Receiver) -> None:
    receiver.answers(*[Answer(status=302, headers={"Location": "/again"})] * 9)
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url)
    assert failed.value.kind == "redirects"
    assert len(receiver.requests) == 4


def test_redirects_share_one_deadline(receiver: Receiver) -> None:
    slow = Answer(status=302, headers={"Location": "/on"}, hold=lambda: receiver.closing.wait(0.15))
    receiver.answers(slow, slow, slow)
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url, timeout_s=0.25)
    assert failed.value.kind == "timeout"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    "location",
    ["http://10.0.0.1/", "https://169.254.169.254/latest", "//[::ffff:10.0.0.1]/", "file:///etc/passwd",
     "http://example.com/", "gopher://127.0.0.1:6379/_x", "https://2130706433/", "https://u:p@example.com/"],
)  # fmt: skip
def test_download_checks_each_redirect(receiver: Receiver, location: str) -> None:
    receiver.answers(Answer(status=302, headers={"Location": location}))
    with pytest.raises(http.UnsafeUrl):
        get(receiver.url)


def test_download_from_another_host_than_the_allowed_is_refused(receiver: Receiver) -> None:
    receiver.answers(Answer(body=b"a"))
    assert get(receiver.url, allow_hosts={"127.0.0.1"}) == b"a"
    with pytest.raises(http.UnsafeUrl):
        get(f"http://localhost:{receiver.port}/", allow_hosts={"127.0.0.1"})
    receiver.answers(Answer(status=302, headers={"Location": f"http://localhost:{receiver.port}/"}))
    with pytest.raises(http.UnsafeUrl):
        get(receiver.url, allow_hosts={"127.0.0.1"})


@pytest.mark.parametrize(
    ("host", "passes"), [("cdn.example.com", True), ("example.com", False), ("evilexample.com", False)]
)
def test_an_allowed_domain_covers_what_is_below_it(host: str, passes: bool, resolver: Any) -> None:
    asked = resolver(["10.0.0.1"])
    with pytest.raises(http.UnsafeUrl):
        get(f"https://{host}/", allow_hosts={".example.com"})
    assert bool(asked) is passes


@pytest.mark.parametrize("status", [204, 206, 304, 400, 404, 500])
def test_download_of_anything_but_200_fails(receiver: Receiver, status: int) -> None:
    receiver.answers(Answer(status=status))
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url)
    assert (failed.value.kind, failed.value.status) == ("status", status)


def test_a_slow_drip_ends_at_the_deadline(receiver: Receiver) -> None:
    def drip() -> Iterator[bytes]:
        while not receiver.closing.wait(0.02):
            yield b"."

    receiver.answers(Answer(chunks=drip()))
    started = time.monotonic()
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url, timeout_s=0.3)
    assert failed.value.kind == "timeout"
    assert time.monotonic() - started < 2


def test_a_slow_drip_of_headers_ends_at_the_deadline(settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not stop.wait(0.02):
                try:
                    peer.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        started = time.monotonic()
        with pytest.raises(http.FetchFailed) as failed:
            get(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.3)
        stop.set()
        thread.join()
    assert failed.value.kind == "timeout"
    assert time.monotonic() - started < 2


def test_too_many_bytes_are_refused_when_announced_and_when_not(receiver: Receiver) -> None:
    receiver.answers(
        Answer(body=b"x" * 1001), Answer(chunks=[b"x" * 600, b"x" * 600]), Answer(body=b"x" * 1000)
    )
    for _ in range(2):
        with pytest.raises(http.FetchFailed) as failed:
            get(receiver.url, max_bytes=1000)
        assert failed.value.kind == "too_large"
    assert len(get(receiver.url, max_bytes=1000)) == 1000


def test_fewer_bytes_than_announced_are_truncated(receiver: Receiver) -> None:
    receiver.answers(Answer(body=b"half", length=8))
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url)
    assert failed.value.kind == "truncated"


def test_a_compressed_body_is_expanded_and_counted_expanded(receiver: Receiver) -> None:
    text = os.urandom(200_000) + b"\0" * 300_000
    receiver.answers(
        Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(text)),
        Answer(headers={"Content-Encoding": "deflate"}, body=zlib.compress(text)),
        Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"\0" * 50_000_000)),
    )
    assert get(receiver.url) == text
    assert get(receiver.url) == text
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url)
    assert failed.value.kind == "too_large"


def test_a_damaged_or_unknown_encoding_fails(receiver: Receiver) -> None:
    receiver.answers(
        Answer(headers={"Content-Encoding": "gzip"}, body=b"no gzip"),
        Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"abc")[:-4]),
        Answer(headers={"Content-Encoding": "br"}, body=b"?"),
    )
    kinds = []
    for _ in range(3):
        with pytest.raises(http.FetchFailed) as failed:
            get(receiver.url)
        kinds.append(failed.value.kind)
    assert kinds == ["encoding", "truncated", "encoding"]


def test_garbage_instead_of_http_fails(settings: LazySettings) -> None:
    settings.ALLOW_LOOPBACK_TARGETS = True

    def talk(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"\0garbage\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk, args=(server,))
        thread.start()
        with pytest.raises(http.FetchFailed) as failed:
            get(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
    assert failed.value.kind == "truncated"


def test_a_file_that_says_it_is_too_large_is_not_read(receiver: Receiver) -> None:
    receiver.answers(Answer(body=b"x" * 10, length=10_000_000_000))
    with pytest.raises(http.FetchFailed) as failed:
        get(receiver.url, max_bytes=1000)
    assert failed.value.kind == "too_large"
