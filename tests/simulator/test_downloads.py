"""A delivered file is spoilt exactly as asked, and charged all the same."""

import io

import httpx
import pytest
from PIL import Image

from tests.fakes.simulator import Simulator
from tests.simulator.client import Client

SMALL = {"size": "64*32"}


def delivered(client: Client, fault: str, **body: object) -> list[str]:
    """The addresses of a finished order's outputs."""
    urls: list[str] = client.ended(client.submit({"prompt": f"x [fault:{fault}]", **SMALL, **body})["id"])[
        "outputs"
    ]
    return urls


def fetched(client: Client, fault: str, **body: object) -> httpx.Response:
    return client.http.get(delivered(client, fault, **body)[0])


@pytest.mark.parametrize(("fault", "colour"), [("blank", 255), ("black", 0), ("filtered", 0)])
def test_a_picture_of_nothing_is_one_colour(client: Client, fault: str, colour: int) -> None:
    image = Image.open(io.BytesIO(fetched(client, fault).content))
    assert image.size == (64, 32)
    assert image.getextrema() == ((colour, colour),) * 3


def test_a_wrong_size_is_half_the_size(client: Client) -> None:
    assert Image.open(io.BytesIO(fetched(client, "wrong-size").content)).size == (32, 16)


@pytest.mark.parametrize(("ordered", "count"), [(1, 2), (3, 2)])
def test_a_wrong_number_is_one_off(client: Client, ordered: int, count: int) -> None:
    urls = delivered(client, "wrong-n", num_images=ordered)
    assert len(urls) == count
    assert all(client.http.get(url).status_code == 200 for url in urls)


def test_an_error_page_comes_as_a_picture(client: Client) -> None:
    answer = fetched(client, "html-output")
    assert answer.headers["content-type"] == "image/png"
    assert answer.text.startswith("<!doctype html>")


def test_a_wrong_type_has_the_right_bytes(client: Client) -> None:
    answer = fetched(client, "wrong-type")
    assert answer.headers["content-type"].startswith("text/plain")
    assert Image.open(io.BytesIO(answer.content)).size == (64, 32)


def test_an_expired_address_is_forbidden(client: Client) -> None:
    assert fetched(client, "expired").status_code == 403


def test_a_redirect_leads_to_a_private_address(client: Client) -> None:
    answer = fetched(client, "redirect-private")
    assert (answer.status_code, answer.headers["location"][:22]) == (302, "http://169.254.169.254")


@pytest.mark.parametrize(
    ("fault", "error"), [("short-output", httpx.RemoteProtocolError), ("cut-output", httpx.ReadError)]
)
def test_a_download_ends_before_its_end(client: Client, fault: str, error: type[Exception]) -> None:
    (url,) = delivered(client, fault)
    with client.http.stream("GET", url) as answer:
        pieces = answer.iter_raw()
        assert 0 < len(next(pieces)) < int(answer.headers["content-length"])
        with pytest.raises(error):
            list(pieces)


def test_a_huge_file_goes_on_and_the_simulator_outlives_who_leaves(client: Client) -> None:
    (url,) = delivered(client, "huge")
    with client.http.stream("GET", url) as answer:
        assert int(answer.headers["content-length"]) == 10_000_000_000
        got = 0
        for piece in answer.iter_raw():
            got += len(piece)
            if got > 1_000_000:
                break
    assert client.http.get("/healthz").status_code == 200


def test_a_slow_file_comes_byte_by_byte(client: Client) -> None:
    (url,) = delivered(client, "drip=0.05")
    with client.http.stream("GET", url) as answer:
        pieces = answer.iter_raw()
        assert len(next(pieces)) + len(next(pieces)) < 10


def test_what_is_spoilt_is_charged(client: Client, simulator: Simulator) -> None:
    for fault in ("blank", "empty", "expired", "huge"):
        delivered(client, fault)
    assert len(simulator.ledger()["charges"]) == 4
