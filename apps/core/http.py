"""The one outgoing HTTP client for addresses that others chose: callback URLs, provider outputs.

Three defences against server-side request forgery (OWASP SSRF Prevention Cheat Sheet): a URL must match one
strict grammar, so no second parser can read it differently; a name is resolved once and every address it has
is checked against the IANA special-purpose registries, also IPv4 carried inside IPv6 (`ssrfguard`'s table:
`ipaddress.is_global` of Python 3.11 is True for 192.0.0.192, 64:ff9b::/96 and 2002::/16); and the socket is
connected to the address that was checked. Everything is bounded: one deadline over DNS, connect, TLS, headers
and body (the timeouts of httpx and httpcore are per operation), bytes after decompression, redirects.
"""

import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from ssl import SSLContext
from typing import Final, Literal
from urllib.parse import urljoin

import httpcore
from django.conf import settings
from ssrfguard import DEFAULT_DENIED

Kind = Literal["connect", "timeout", "status", "too_large", "truncated", "encoding", "redirects", "protocol"]
Address = IPv4Address | IPv6Address

MAX_URL_LENGTH: Final = 2048
MAX_REDIRECTS: Final = 3
_CONNECT_TIMEOUT_S: Final = 5.0
_CHUNK: Final = 65_536

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-\[\]-~]*)?(?P<query>\?[!-\[\]-~]*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# Names that lead inward: RFC 6761, RFC 6762 (section 3 and appendix G), RFC 8375.
_INNER_NAMES = (
    "localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"
)  # fmt: skip
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# A public address that every Azure machine reaches its host's control channel by.
_AZURE_HOST = IPv4Address("168.63.129.16")


class UnsafeUrl(Exception):
    """We will not connect there. `reason` may be shown to whoever gave the URL."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FetchFailed(Exception):
    """The other side did not give what was asked within the limits. `status` is set for kind `status`."""

    def __init__(self, kind: Kind, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` with lower-case names. `body` is as sent, cut at the caller's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is deleted when the context ends. `sha256` in hex, `size` in bytes."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> httpcore.URL:
        return httpcore.URL(scheme=self.scheme, host=self.host, port=self.port, target=self.path)

    @property
    def authority(self) -> str:
        """The Host header's value (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"


def check_url(url: str) -> None:
    """Raises UnsafeUrl unless `url` is a plain https URL of a public host, as far as can be told without DNS.

    In development (`ALLOW_LOOPBACK_TARGETS`) http and https on the loopback interface pass too.
    International host names are given in their `xn--` form, other characters percent-encoded.
    """
    _parse(url)


def post(
    url: str, *, body: bytes, headers: Mapping[str, str], timeout_s: float, max_response_bytes: int
) -> Response:
    """One POST, no redirects followed: a 3xx is returned like any other status.

    Raises UnsafeUrl, or FetchFailed when there is no complete response within `timeout_s`. A longer response
    is cut at `max_response_bytes`.
    """
    target = _parse(url)
    with _exchange("POST", target, headers=headers, body=body, timeout_s=timeout_s) as reply:
        return Response(reply.status, _header_map(reply), _read_at_most(reply, max_response_bytes))


@contextmanager
def download(
    url: str, *, max_bytes: int, timeout_s: float, allow_hosts: Collection[str] | None = None
) -> Generator[Download]:
    """GETs `url` into a temporary file: `with http.download(…) as got: got.path`.

    Follows at most three redirects, each checked like the first URL. Sends no credentials, so none can cross
    to another host. `allow_hosts`: host names, or `.example.com` for all below it; None allows every public
    host. Raises UnsafeUrl or FetchFailed.
    """
    handle, name = tempfile.mkstemp(prefix="download-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            digest, size = sha256(), 0
            pieces = _fetch(url, max_bytes=max_bytes, timeout_s=timeout_s, allow_hosts=allow_hosts)
            with closing(pieces):
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
        yield Download(path, digest.hexdigest(), size)
    finally:
        path.unlink(missing_ok=True)


# --- The URL ----------------------------------------------------------------------------------


def _parse(url: str) -> _Target:
    if len(url) > MAX_URL_LENGTH:
        raise UnsafeUrl(f"The URL is longer than {MAX_URL_LENGTH} characters")
    # A fragment is never sent; what precedes it must match in full.
    match = _URL.fullmatch(url.split("#", 1)[0])
    if match is None or not url.isascii() or not url.isprintable():
        raise UnsafeUrl("Not a plain https URL: no credentials, spaces, backslashes or unencoded characters")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    address = _literal(host)
    if address is None:
        _check_name(host)
    else:
        _check_address(address)
    port = _port(match["port"], scheme)
    if scheme == "http" and not _is_loopback(address, host):
        raise UnsafeUrl("Use https")
    path = (match["path"] or "/") + (match["query"] or "")
    return _Target(scheme, str(address) if address else host, port, path)


def _literal(host: str) -> Address | None:
    """The address a host is, None for a name. Only the canonical spelling of IPv4 is an address.

    The shapes that `inet_aton` and browsers also read as IPv4 (127.1, 0x7f000001, 017700000001) are refused:
    every host whose last label is a number is meant as IPv4 (WHATWG URL, "ends in a number").
    """
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rstrip(".").rpartition(".")[2]):
            return IPv4Address(host)
    except ValueError:
        raise UnsafeUrl("Not a canonical IP address") from None
    return None


def _check_name(host: str) -> None:
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise UnsafeUrl("Not a valid host name")
    if host == "localhost" and settings.ALLOW_LOOPBACK_TARGETS:
        return
    if "." not in host or any(host.endswith(f".{name}") for name in _INNER_NAMES):
        raise UnsafeUrl("Not a public host name")


def _check_address(address: Address) -> None:
    """Raises UnsafeUrl unless packets to `address` leave for the public internet, or loopback if allowed."""
    if address.is_loopback and settings.ALLOW_LOOPBACK_TARGETS:
        return
    verdict = DEFAULT_DENIED.classify(address)
    unallocated = address.version == 6 and address not in _GLOBAL_UNICAST and address not in _NAT64
    if verdict.blocked or unallocated or address == _AZURE_HOST:
        raise UnsafeUrl("Not a public address")


def _is_loopback(address: Address | None, host: str) -> bool:
    return host == "localhost" if address is None else address.is_loopback


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _port(text: str | None, scheme: str) -> int:
    port = int(text) if text else _default_port(scheme)
    if port not in (80, 443) and not 1024 <= port <= 65_535:
        raise UnsafeUrl("The port must be 80, 443 or from 1024 to 65535")
    return port


# --- The connection ---------------------------------------------------------------------------

_deadline: ContextVar[float] = ContextVar("deadline")


def _remaining_s() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("total deadline passed")
    return left


@cache
def _lookups() -> ThreadPoolExecutor:
    """getaddrinfo takes no timeout, and whoever chose the name may run its name server."""
    return ThreadPoolExecutor(max_workers=32, thread_name_prefix="dns")


def _resolve(host: str, port: int) -> list[Address]:
    """Every address of `host`, each checked. One bad address refuses the name: it is a sign of rebinding."""
    try:
        return [ip_address(host)]  # checked by _parse
    except ValueError:
        pass
    lookup = _lookups().submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        answers = lookup.result(timeout=_remaining_s())
    except TimeoutError:
        lookup.cancel()
        raise httpcore.ConnectTimeout("name lookup") from None
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"name lookup: {error}") from None
    # An IPv6 answer with a scope (fe80::1%eth0) is link-local and refused as such.
    addresses = list(dict.fromkeys(ip_address(str(answer[4][0])) for answer in answers))
    for address in addresses:
        _check_address(address)
    return addresses


class _Stream(httpcore.NetworkStream):
    """A socket whose every operation ends at the deadline of the request it serves now."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _remaining_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _CHUNK):
            self._inner.write(buffer[start : start + _CHUNK], _remaining_s())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _remaining_s()))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Resolves once, checks all, connects to what was checked."""

    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in _resolve(host, port):
            try:
                timeout_s = min(_CONNECT_TIMEOUT_S, _remaining_s())
                return _Stream(self._sockets.connect_tcp(str(address), port, timeout_s))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


@cache
def _pool() -> httpcore.ConnectionPool:
    return httpcore.ConnectionPool(
        max_connections=400,
        max_keepalive_connections=100,
        keepalive_expiry=15,
        network_backend=_Backend(),
    )


# A forked child must not share its parent's sockets, and has none of its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
os.register_at_fork(after_in_child=_lookups.cache_clear)


@contextmanager
def _exchange(
    method: str, target: _Target, *, headers: Mapping[str, str], timeout_s: float, body: bytes | None = None
) -> Generator[httpcore.Response]:
    """One request, and the response while its body is being read, within `timeout_s` in all."""
    token = _deadline.set(time.monotonic() + timeout_s)
    sent = {"Host": target.authority, "Accept-Encoding": "identity", **headers}
    try:
        with _pool().stream(
            method,
            target.url,
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()],
            content=body,
            extensions={"timeout": {"pool": max(timeout_s, 0.0)}},
        ) as reply:
            yield reply
    except httpcore.TimeoutException as error:
        raise FetchFailed("timeout", str(error)) from None
    except (httpcore.ConnectError, httpcore.WriteError) as error:
        raise FetchFailed("connect", str(error)) from None
    except (httpcore.RemoteProtocolError, httpcore.ReadError) as error:  # also an answer that is not HTTP
        raise FetchFailed("truncated", str(error)) from None
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise FetchFailed("protocol", str(error)) from None
    finally:
        _deadline.reset(token)


# --- The response -----------------------------------------------------------------------------


def _header_map(reply: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reply.headers}


def _read_at_most(reply: httpcore.Response, limit: int) -> bytes:
    body = bytearray()
    for chunk in reply.iter_stream():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


def _fetch(
    url: str, *, max_bytes: int, timeout_s: float, allow_hosts: Collection[str] | None
) -> Generator[bytes]:
    ends_at = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        target = _parse(url)
        _check_allowed(target.host, allow_hosts)
        with _exchange("GET", target, headers={}, timeout_s=ends_at - time.monotonic()) as reply:
            headers = _header_map(reply)
            if reply.status not in (301, 302, 303, 307, 308):
                yield from _body(reply, headers, max_bytes)
                return
        url = _location(url, headers)
    raise FetchFailed("redirects", f"more than {MAX_REDIRECTS}")


def _check_allowed(host: str, allow_hosts: Collection[str] | None) -> None:
    if allow_hosts is None:
        return
    if not any(host == allowed or (allowed[:1] == "." and host.endswith(allowed)) for allowed in allow_hosts):
        raise UnsafeUrl("This host is not expected here")


def _location(url: str, headers: Mapping[str, str]) -> str:
    try:
        return urljoin(url, headers["location"])
    except (KeyError, ValueError):
        raise FetchFailed("protocol", "a redirect without a valid Location") from None


def _body(reply: httpcore.Response, headers: Mapping[str, str], max_bytes: int) -> Iterator[bytes]:
    """The content, decoded, counted while it comes. h11 raises if Content-Length is not met."""
    if reply.status != 200:
        raise FetchFailed("status", str(reply.status), status=reply.status)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise FetchFailed("too_large", f"{declared} bytes announced")
    size = 0
    for piece in _decoded(reply.iter_stream(), headers.get("content-encoding", "identity").strip().lower()):
        size += len(piece)
        if size > max_bytes:
            raise FetchFailed("too_large", f"more than {max_bytes} bytes")
        yield piece


def _decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """We ask for `identity`, but an object store may hold a file gzipped. Expands a piece at a time."""
    if encoding in ("", "identity"):
        yield from chunks
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise FetchFailed("encoding", encoding[:40])
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for chunk in chunks:
        rest, piece = chunk, b" " * _CHUNK
        while len(piece) == _CHUNK:
            piece = _inflate(inflate, rest)
            rest = inflate.unconsumed_tail
            yield piece
    if not inflate.eof:
        raise FetchFailed("truncated", "the compressed body ends early")


def _inflate(inflate: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return inflate.decompress(data, _CHUNK)
    except zlib.error as error:
        raise FetchFailed("encoding", str(error)) from None
