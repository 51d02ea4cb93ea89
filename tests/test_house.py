"""The house rules that a tool can hold: layers of tables, the bell, the documentation, and what we do without."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db.models import DateField, DecimalField, Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.catalog.errors import ModelRefused
from apps.core import api_errors, money
from apps.core.telemetry import instruments
from apps.jobs import leases
from apps.ops import reference
from apps.providers.errors import POLICIES
from genplatform import urls as every_room  # noqa: F401 - loads what the URL table needs: all errors are known then
from genplatform.celery import QUEUES, app
from genplatform.stack import processes

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MAX_LINES = 90

_OURS = [config for config in apps.get_app_configs() if config.name.startswith("apps.")]
MODELS = sorted(
    (model for config in _OURS for model in config.get_models()), key=lambda model: model._meta.label
)


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT), ast.parse(path.read_text())


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Calls of `name`, written as it is written there: `bell.ring`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            yield node


# --- Layers -----------------------------------------------------------------------------------


def floors() -> dict[str, int]:
    """App → how high it stands, from the contract that import-linter holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return {app.strip(): -depth for depth, layer in enumerate(layers) for app in layer.split("|")}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_foreign_keys_point_down(model: type[Model]) -> None:
    floor = floors()
    for field in model._meta.get_fields():
        if not field.is_relation or field.auto_created or field.related_model is None:
            continue
        assert not isinstance(field.related_model, str)
        here, there = model._meta.app_config.name, field.related_model._meta.app_config.name
        assert here == there or there not in floor or floor[there] < floor[here], f"{field} → {there}"


# --- The bell ---------------------------------------------------------------------------------


def rung() -> dict[str, str]:
    """Task → queue, of every ring in the code."""
    found = dict(leases._QUEUE)
    assert found.keys() == leases._BATCH_QUEUE.keys()
    assert set(leases._BATCH_QUEUE.values()) == leases._HEARD_BY.keys() <= set(QUEUES)
    for path, tree in modules("apps"):
        for call in calls(tree, "bell.ring"):
            if isinstance(call.args[0], ast.Constant):
                queue = next(word.value for word in call.keywords if word.arg == "queue")
                if isinstance(queue, ast.Name):
                    # The one that a batch job's next step is rung on, too.
                    assert path == Path("apps/jobs/pacing.py"), path
                    found[str(call.args[0].value)] = leases._BATCH_QUEUE[leases.RUN]
                    continue
                # One of two, or the one.
                ends = [queue.body, queue.orelse] if isinstance(queue, ast.IfExp) else [queue]
                assert {str(getattr(end, "value", "")) for end in ends} <= set(QUEUES), path
                found[str(call.args[0].value)] = str(getattr(ends[0], "value", ""))
            else:
                # A name instead of a task: only where the two tasks of a job are chosen from.
                assert path == Path("apps/jobs/leases.py"), path
    return found


def test_every_queue_has_a_worker_and_those_of_batch_work_the_one_that_is_looked_for() -> None:
    heard_by: dict[str, str] = {}
    for process in processes.listed({}):
        if "-Q" in process.command:
            queues = process.command[process.command.index("-Q") + 1]
            heard_by |= dict.fromkeys(queues.split(","), process.name)
    assert heard_by.keys() == set(QUEUES)
    assert heard_by.items() >= leases._HEARD_BY.items()


def beat() -> dict[str, str]:
    schedule: dict[str, dict[str, Any]] = app.conf.beat_schedule
    return {entry["task"]: entry["options"]["queue"] for entry in schedule.values()}


def test_every_ring_reaches_a_task_that_takes_a_version_and_an_id() -> None:
    app.loader.import_default_modules()
    assert len(rung()) >= 5
    for name, queue in rung().items():
        parameters = inspect.signature(app.tasks[name].run).parameters
        assert [*parameters] == ["v", "id"], name
        for parameter in parameters.values():
            assert (parameter.kind, parameter.default) == (parameter.KEYWORD_ONLY, parameter.empty), name
        assert queue in QUEUES


def test_what_beat_rings_needs_no_arguments_and_has_its_own_queue() -> None:
    app.loader.import_default_modules()
    for name, queue in beat().items():
        if name.startswith("celery."):
            continue
        for parameter in inspect.signature(app.tasks[name].run).parameters.values():
            assert parameter.kind == parameter.KEYWORD_ONLY, name
            assert parameter.default is not parameter.empty, name
        assert queue == "control", name


def test_every_task_is_rung_by_somebody() -> None:
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == set(rung()) | {name for name in beat() if not name.startswith("celery.")}


# --- What we do without -----------------------------------------------------------------------


def test_no_function_is_longer_than_a_screen() -> None:
    for path, tree in modules("apps", "genplatform"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MAX_LINES, f"{path}: {node.name} has {lines} lines"


def test_no_table_has_a_hidden_order() -> None:
    assert [model._meta.label for model in MODELS if model._meta.ordering] == []


def test_signals_are_used_for_the_workers_sign_of_life_only() -> None:
    users = set()
    for path, tree in modules("apps", "genplatform"):
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            if any(re.search(r"\bsignals\b|django\.dispatch", name) for name in names):
                users.add(path)
    assert users == {Path("apps/core/workers.py")}


def test_money_is_decimal_with_the_digits_of_money() -> None:
    columns = [field for model in MODELS for field in model._meta.fields if field.name.endswith("_usd")]
    assert len(columns) >= 10
    for field in columns:
        assert isinstance(field, DecimalField), field
        digits = {"max_digits": field.max_digits, "decimal_places": field.decimal_places}
        assert digits in (money.AMOUNT, money.UNIT_PRICE), field


def test_no_column_of_money_hides_behind_another_name() -> None:
    suspicious = re.compile(r"price|cost|amount|budget|spent|held|limit_")
    others = (DateField,)  # the day of a price is no price
    plain = [
        field
        for model in MODELS
        for field in model._meta.fields
        if not field.is_relation and not isinstance(field, others)
    ]
    found = [
        field for field in plain if suspicious.search(field.name) and not field.name.endswith(("_usd", "_id"))
    ]
    assert [str(field) for field in found] == []


# --- The documentation ------------------------------------------------------------------------


def table(page: str, section: str = "") -> dict[str, list[str]]:
    """The rows of a page's tables (of one section) whose first cell is a word of code: word → the other cells."""
    rows, heading = {}, ""
    for line in (DOCS / page).read_text().splitlines():
        heading = line.removeprefix("## ") if line.startswith("## ") else heading
        if section in ("", heading) and (found := re.match(r"\| `([^`]+)` \|(.*)\|$", line)):
            rows[found[1]] = [cell.strip() for cell in found[2].split("|")]
    return rows


def test_every_error_is_documented_as_it_is() -> None:
    documented = table("reference/errors.md", "Refusals of the API")
    refusals = list(reference.refusals())
    assert len({error.code for error in refusals}) == len(refusals) >= 15
    for error in refusals:
        assert documented[error.code][:2] == [str(error.status), "yes" if error.retryable else "no"], (
            error.code
        )


def test_the_type_of_a_problem_leads_to_its_description() -> None:
    client = Client()
    for error in reference.refusals():
        named: dict[str, Any] = {"alternatives": ()} if issubclass(error, ModelRefused) else {}
        page, anchor = api_errors.problem(error("why", **named))["type"].split("#")
        assert f'id="{anchor}"' in client.get(page).content.decode()
        assert anchor == error.code


def test_every_end_of_a_job_is_documented() -> None:
    codes = set()
    for _, tree in modules("apps/jobs"):
        for call in calls(tree, "settle.fail"):
            codes |= {ast.literal_eval(word.value) for word in call.keywords if word.arg == "code"}
    assert len(codes) >= 5
    assert codes == set(table("reference/errors.md", "How a job fails"))


def test_every_kind_of_provider_error_is_documented_with_its_policy() -> None:
    documented = table("reference/errors.md", "What went wrong in an attempt")
    for kind, policy in POLICIES.items():
        expected = [
            *("yes" if answer else "no" for answer in (policy.retry, policy.fall_back)),
            policy.billed,
        ]
        assert documented[kind][:3] == expected, kind


def settings_read() -> set[str]:
    """Every variable of the environment that the platform reads."""
    _, settings = next(found for found in modules("genplatform") if found[0].name == "settings.py")
    names = {
        str(node.args[0].value)
        for node in ast.walk(settings)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"env\.\w+", ast.unparse(node.func))
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    for path, tree in modules("genplatform/stack", "apps/simulator", "apps/ops/management"):
        # The simulator also knows words of the protocols that it speaks.
        ours = r"SIMULATOR_[A-Z_]+" if "simulator" in path.parts else r"[A-Z]+(?:_[A-Z]+)+|PGPORT"
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names |= set(re.findall(rf"^(?:{ours})$", node.value))
    return names


# What we set for a library, lines of .run/demo.env, which are written and never read, and words of the servers' own.
NOT_SETTINGS = re.compile(
    r"(OMP_NUM_THREADS|GENPLATFORM_\w+|(ADMIN|FLOWER|SIMULATOR)_URL|ADMIN_USER|FLOWER_(USER|PASSWORD)|PG_VERSION|REDISCLI_AUTH)"
)


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    read = {name for name in settings_read() if not NOT_SETTINGS.fullmatch(name)}
    assert {"DATABASE_URL", "WEB_PORT", "DEBUG", "SIMULATOR_TIME_SCALE", "ADMIN_PASSWORD"} <= read
    assert read == set(table("reference/settings.md"))


def test_documented_defaults_are_those_of_the_settings() -> None:
    documented = table("reference/settings.md")
    compared = 0
    tree = ast.parse((ROOT / "genplatform/settings.py").read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not re.fullmatch(r"env\.\w+", ast.unparse(node.func)):
            continue
        for word in node.keywords:
            if word.arg == "default" and isinstance(word.value, ast.Constant):
                name, value = ast.literal_eval(node.args[0]), ast.literal_eval(word.value)
                value = int(value) if isinstance(value, bool) else value
                plain = f"{value:g}" if isinstance(value, float) else str(value)
                assert documented[name][0].strip("`") == (plain or "empty"), name
                compared += 1
    assert compared >= 20


def test_every_metric_is_documented_as_it_is() -> None:
    documented = table("reference/metrics.md")
    assert set(documented) == set(instruments.KNOWN)
    for name, instrument in instruments.KNOWN.items():
        labels = ", ".join(f"`{label}`" for label in instrument.labels) or "-"
        source = "rows" if instrument.rows else "process"
        expected = [f"`{instrument.exposed}`", instrument.kind, instrument.unit, labels, source]
        assert documented[name][:5] == expected, name


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    for entry in patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, path)
        else:
            yield path


def test_every_path_of_the_api_is_documented() -> None:
    text = (DOCS / "reference/api.md").read_text()
    paths = [
        path for path in routes(get_resolver().url_patterns) if path.startswith(("v1/", "healthz", "readyz"))
    ]
    assert len(paths) >= 12
    for path in paths:
        shown = "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", path)
        assert f"{shown}`" in text or f"{shown} " in text or f"{shown}?" in text, shown


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            found = (page.parent / file).resolve() if file else page
            assert found.exists(), f"{page.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.M)
                slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{page.name}: {target}"
