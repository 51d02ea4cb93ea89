"""The simulator speaks the Stability AI protocol (v2beta) as its documentation describes it."""

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.fakes.simulator import Simulator


@pytest.fixture
def post(simulator: Simulator) -> Any:
    def post(
        fields: dict[str, str],
        *,
        service: str = "core",
        key: str = simulator.api_key,
        accept: str = "image/*",
    ) -> httpx.Response:
        return httpx.post(
            f"{simulator.base_url}/stability/v2beta/stable-image/generate/{service}",
            headers={"authorization": f"Bearer {key}", "accept": accept},
            files={name: (None, text) for name, text in fields.items()},
        )

    return post


def test_a_picture_comes_as_bytes_with_its_seed(post: Any) -> None:
    answer = post({"prompt": "a red fox", "seed": "7", "aspect_ratio": "2:3"})
    assert answer.headers["content-type"] == "image/png"
    assert (answer.headers["seed"], answer.headers["finish-reason"]) == ("7", "SUCCESS")
    assert Image.open(io.BytesIO(answer.content)).size == (832, 1216)
    # The same seed, the same picture; zero is a new one each time.
    assert post({"prompt": "a red fox", "seed": "7", "aspect_ratio": "2:3"}).content == answer.content
    assert post({"prompt": "a red fox", "seed": "0"}).headers["seed"] != "0"


def test_a_picture_comes_as_json_for_those_who_accept_that(post: Any) -> None:
    body = post({"prompt": "a red fox", "seed": "7"}, accept="application/json").json()
    assert (body["finish_reason"], body["seed"]) == ("SUCCESS", 7)
    assert Image.open(io.BytesIO(base64.b64decode(body["image"]))).size == (1024, 1024)


@pytest.mark.parametrize("accept", ["image/*", "application/json"])
def test_a_filtered_picture_is_http_200_and_free(post: Any, simulator: Simulator, accept: str) -> None:
    answer = post({"prompt": "x [fault:nsfw]"}, accept=accept)
    assert answer.status_code == 200
    told = answer.headers["finish-reason"] if accept == "image/*" else answer.json()["finish_reason"]
    assert told == "CONTENT_FILTERED"
    assert simulator.ledger()["charges"] == []


@pytest.mark.parametrize(
    ("fields", "options", "status", "name"),
    [
        ({"seed": "1"}, {}, 400, "bad_request"),
        ({"prompt": "x", "aspect_ratio": "4:3"}, {}, 400, "bad_request"),
        ({"prompt": "x", "seed": "4294967295"}, {}, 400, "bad_request"),
        ({"prompt": "x", "model": "sdxl"}, {"service": "sd3"}, 400, "bad_request"),
        ({"prompt": "x"}, {"accept": "*/*"}, 400, "bad_request"),
        ({"prompt": "x"}, {"key": "wrong"}, 401, "unauthorized"),
        ({"prompt": "x"}, {"service": "turbo"}, 404, "not_found"),
        ({"prompt": "x [fault:429]"}, {}, 429, "rate_limit_exceeded"),
    ],
)
def test_a_refusal_has_a_name_and_a_list_of_errors(
    post: Any, fields: dict[str, str], options: dict[str, str], status: int, name: str
) -> None:
    answer = post(fields, **options)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert len(answer.json()["errors"]) == 1


def test_nothing_but_a_form_is_taken(simulator: Simulator) -> None:
    answer = httpx.post(
        f"{simulator.base_url}/stability/v2beta/stable-image/generate/core",
        headers={"authorization": f"Bearer {simulator.api_key}", "accept": "image/*"},
        json={"prompt": "x"},
    )
    assert (answer.status_code, answer.json()["name"]) == (415, "unsupported_media_type")


def test_the_balance_is_shown_to_a_key(simulator: Simulator) -> None:
    url = f"{simulator.base_url}/stability/v1/user/balance"
    assert httpx.get(url, headers={"authorization": f"Bearer {simulator.api_key}"}).json() == {
        "credits": 1000.0
    }
    assert httpx.get(url).status_code == 401
