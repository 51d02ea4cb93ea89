"""Whose request a line of the log is about, and which job."""

import logging
from typing import Any

import pytest
import redis
import structlog

from apps.core import bell
from tests.factories import Someone, body
from tests.fakes.simulator import free_port


@pytest.mark.django_db(transaction=True)  # the bell is rung by the commit
def test_a_line_names_team_and_job_and_what_comes_after_the_request_does_not(
    pro: Someone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = redis.Redis(port=free_port())
    monkeypatch.setattr(bell, "_broker", lambda: away)
    monkeypatch.setattr(bell, "_quiet_until", 0.0)
    with caplog.at_level(logging.WARNING):
        accepted = pro.api.post("/v1/jobs", body(), format="json")
    assert accepted.status_code == 202
    # structlog hands over the whole line as a mapping.
    said: list[Any] = [record.msg for record in caplog.records]
    (line,) = [each for each in said if "bell.unheard" in str(each)]
    assert (line["team_id"], line["job_id"]) == (str(pro.user.team_id), accepted.json()["id"])
    assert structlog.contextvars.get_contextvars() == {}
