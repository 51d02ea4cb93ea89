"""A provider's bill comes in whole or not at all, and once."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from django.core.management import CommandError, call_command

from apps.ops import bills
from apps.ops.models import Bill, BillLine
from tests.fakes import simulator as fake

pytestmark = pytest.mark.django_db
simulator_process, simulator = fake.simulator_process, fake.simulator

HEADER = "task_id,amount_usd,at\n"


def written(tmp_path: Path, text: str, name: str = "may.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def imported(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    call_command("import_bill", "wavespeed", str(path), *more)
    return capsys.readouterr().out.partition(": ")[2].strip()


def test_lines_come_in_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEADER + "t1,0.025,2026-05-01T10:00:00Z\nt2,0.0000000001,2026-05-02T12:00:00+02:00\n"
    path = written(tmp_path, text)
    assert imported(path, capsys) == "2 new lines, 0 changed, 0 known"
    assert imported(path, capsys) == "0 new lines, 0 changed, 2 known"
    lines = {line.task_id: line for line in BillLine.objects.all()}
    assert lines["t2"].amount_usd == Decimal("1E-10")
    assert lines["t2"].at == datetime(2026, 5, 2, 10, tzinfo=UTC)
    bill = Bill.objects.get()
    assert (bill.starts_at, bill.ends_at) == (lines["t1"].at, lines["t2"].at)


def test_a_later_figure_replaces_the_earlier_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(written(tmp_path, HEADER + "t1,0.025,2026-05-01T10:00:00Z\n"), capsys)
    later = written(tmp_path, HEADER + "t1,0.03,2026-05-01T10:00:00Z\n", "june.csv")
    assert imported(later, capsys) == "0 new lines, 1 changed, 0 known"
    assert BillLine.objects.get().amount_usd == Decimal("0.03")
    assert BillLine.objects.get().bill.source == "june.csv"


def test_charges_and_credits_of_a_task_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEADER + "t1,0.025,2026-05-01T10:00:00Z\nt1,-0.02,2026-05-03T10:00:00Z\n"
    imported(written(tmp_path, text), capsys)
    line = BillLine.objects.get()
    assert (line.amount_usd, line.at.day) == (Decimal("0.005"), 3)


def test_a_spreadsheets_file_is_read_other_columns_and_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '\ufeffmodel,task_id,at,amount_usd\r\n"flux, fast",t1,2026-05-01T10:00:00Z,0.025\r\n'
    assert imported(written(tmp_path, text), capsys) == "1 new lines, 0 changed, 0 known"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEADER + "t1,0.02,2026-05-01T10:00:00Z\nt2,two,2026-05-01T10:00:00Z\n", "line 3: amount_usd"),
        (HEADER + "t1,NaN,2026-05-01T10:00:00Z\n", "line 2: amount_usd"),
        (HEADER + "t1,1e400,2026-05-01T10:00:00Z\n", "line 2: amount_usd"),
        (HEADER + "t1,9999999999,2026-05-01T10:00:00Z\n", "line 2: amount_usd"),
        (HEADER + "t1,0.02,2026-05-01\n", "line 2: at"),
        (HEADER + "t1,0.02,2026-05-01T10:00:00\n", "line 2: at"),
        (HEADER + "t1,0.02,2026-13-01T10:00:00Z\n", "line 2: at"),
        (HEADER + ",0.02,2026-05-01T10:00:00Z\n", "line 2: task_id"),
        (HEADER + "t1\n", "line 2: amount_usd"),
        (HEADER + 't1,"0.02,2026-05-01T10:00:00Z\n', "line 2: "),
        ("task,amount_usd,at\n", "line 1: no column task_id"),
        ("", "line 1: no column task_id, amount_usd, at"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_kept(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CommandError, match="nothing was imported") as refused:
        call_command("import_bill", "wavespeed", str(written(tmp_path, text)))
    assert problem in str(refused.value)
    assert not Bill.objects.exists()


def test_every_bad_line_is_named_up_to_a_bound(tmp_path: Path) -> None:
    text = HEADER + "t1,x,2026-05-01T10:00:00Z\n" * 30
    with pytest.raises(bills.BadBill) as refused:
        bills.read_csv(text.splitlines(keepends=True))
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1] == "… and 10 more"


@pytest.mark.parametrize("text", [HEADER, "\udcff"])
def test_a_file_without_lines_or_without_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CommandError):
        call_command("import_bill", "wavespeed", str(path))
    with pytest.raises(CommandError, match="could not be read"):
        call_command("import_bill", "wavespeed", str(tmp_path / "missing.csv"))


def test_the_time_a_bill_is_complete_for_can_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, HEADER + "t1,0.025,2026-05-07T10:00:00Z\n")
    imported(path, capsys, "--starts-at", "2026-05-01T00:00:00Z", "--ends-at", "2026-06-01T00:00:00Z")
    bill = Bill.objects.get()
    assert (bill.starts_at.day, bill.ends_at.month) == (1, 6)


def test_the_simulators_charges_are_a_bill(
    simulator: fake.Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator.settings(time_scale=0)
    with httpx.Client(base_url=simulator.base_url, trust_env=False) as client:
        headers = {"Authorization": f"Bearer {simulator.api_key}"}
        path = "/api/v3/wavespeed-ai/flux-schnell"
        answer = client.post(path, json={"prompt": "a fox"}, headers=headers)
        assert answer.status_code == 200, answer.text
        task_id = answer.json()["data"]["id"]
        client.get(f"/api/v3/predictions/{task_id}/result", headers=headers)
    call_command("import_bill", "wavespeed", from_simulator=simulator.base_url)
    line = BillLine.objects.get()
    assert line.task_id == task_id
    assert [line.amount_usd] == [Decimal(each["amount_usd"]) for each in simulator.ledger()["charges"]]
    with pytest.raises(CommandError, match="did not answer"):
        call_command("import_bill", "wavespeed", from_simulator=f"http://127.0.0.1:{fake.free_port()}")
