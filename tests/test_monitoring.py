"""docker/prometheus, docker/grafana and docker/otel name what exists: instruments, labels, buckets, each other."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.core.telemetry import instruments
from genplatform import settings
from genplatform import urls as every_room  # noqa: F401 - loads what the URL table needs: all instruments are known then

DOCKER = Path(settings.BASE_DIR) / "docker"
RULES = sorted((DOCKER / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
# Prometheus' own, and labels that it adds.
OWN = {"up": {"job", "instance"}}
ALWAYS = {"job", "instance"}
KEYWORDS = {
    "by",
    "without",
    "and",
    "or",
    "unless",
    "on",
    "ignoring",
    "offset",
    "bool",
    "group_left",
    "group_right",
}


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for _, panel in panels() for target in panel["targets"])


def known() -> dict[str, set[str]]:
    """Every name that Prometheus has, with its labels."""
    names = {name: set(labels) for name, labels in OWN.items()}
    for instrument in instruments.KNOWN.values():
        labels = {*instrument.labels, *ALWAYS}
        if instrument.kind == "histogram":
            names |= {f"{instrument.exposed}_{part}": labels for part in ("sum", "count")}
            names[f"{instrument.exposed}_bucket"] = labels | {"le"}
        else:
            names[instrument.exposed] = labels
    return names | {rule["record"]: set[str]() for rule in rules() if "record" in rule}


def named(expression: str) -> set[str]:
    """The metrics of an expression: words that are neither functions, keywords, labels nor durations."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    plain = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", plain)
    words = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\w)\s*(\(?)", plain)
    return {word for word, call in words if not call and word not in KEYWORDS}


def labels_of(expression: str) -> set[str]:
    """Those that it selects or groups by."""
    selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {*selected, *(label.strip() for labels in grouped for label in labels.split(",") if label.strip())}


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_a_query_names_what_there_is(expression: str) -> None:
    names, have = named(expression), known()
    assert names, "it names nothing"
    assert names <= have.keys()
    labels: set[str] = set().union(*(have[name] for name in names))
    assert labels_of(expression) <= labels
    for name, bound in re.findall(r"(\w+)_bucket\{[^}]*le=\"([^\"]+)\"", expression):
        [instrument] = [each for each in instruments.KNOWN.values() if each.exposed == name]
        assert float(bound) in instrument.bounds


def test_the_reader_of_queries_sees_names_and_labels() -> None:
    """What the test above stands on."""
    query = 'sum by (le, a) (rate(x_total{b="le_c", d=~"e|f"}[5m])) / on (g) group_left y:z and deriv(w[1h:5m]) > 0.1'
    assert named(query) == {"x_total", "y:z", "w"}
    assert labels_of(query) == {"le", "a", "b", "d", "g"}
    with pytest.raises(AssertionError):
        test_a_query_names_what_there_is("rate(generation_requests[5m])")
    with pytest.raises(AssertionError):
        test_a_query_names_what_there_is("sum by (colour) (generation_queue_depth)")


def test_every_instrument_is_in_a_dashboard_or_a_rule() -> None:
    shown = set().union(*(named(expression) for expression in expressions()))
    for instrument in instruments.KNOWN.values():
        names = {instrument.exposed, *(f"{instrument.exposed}_{part}" for part in ("sum", "count", "bucket"))}
        assert names & shown, instrument.name


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    found = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in found}) == len(found) >= 10
    for rule in found:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_every_objective_has_a_fast_and_a_slow_alert_of_two_windows_each() -> None:
    """The Site Reliability Workbook, ch. 5: 14.4 over 1 h and 5 m, 6 over 6 h and 30 m, 1 over 3 d and 6 h."""
    budgets = {"jobs_failed": 0.01, "accept_slow": 0.01, "overhead_slow": 0.05}
    alerts = " ".join(rule["expr"] for rule in rules() if "alert" in rule)
    found: dict[str, list[tuple[str, float]]] = {}
    for name, window, limit in re.findall(r"genplatform:(\w+):ratio_rate(\w+) > ([\d.]+)", alerts):
        found.setdefault(name, []).append((window, float(limit)))
    assert found.keys() == budgets.keys()
    for name, budget in budgets.items():
        wanted = [("1h", 14.4), ("5m", 14.4), ("6h", 6), ("30m", 6), ("3d", 1), ("6h", 1)]
        assert [window for window, _ in found[name]] == [window for window, _ in wanted]
        assert [limit for _, limit in found[name]] == pytest.approx([rate * budget for _, rate in wanted])


def test_the_five_dashboards_have_their_own_names_and_places() -> None:
    assert [path.stem for path in DASHBOARDS] == ["cache", "cost", "overview", "providers", "queue"]
    documents = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({document["uid"] for document in documents}) == len(documents)
    source = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ][0]
    for document in documents:
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in document["panels"]}
        assert len(places) == len(document["panels"])
        for panel in document["panels"]:
            assert panel["datasource"]["uid"] == source["uid"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_the_collector_uses_what_it_declares() -> None:
    document = yaml.safe_load((DOCKER / "otel/collector.yaml").read_text())
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in document["service"]["pipelines"].values():
        for kind, names in used.items():
            names |= set(pipeline[kind])
    assert used == {kind: set(document[kind]) for kind in used}
    assert document["service"]["extensions"] == list(document["extensions"])


def test_prometheus_reads_the_rules_and_asks_the_service_of_compose() -> None:
    document = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for scrape in document["scrape_configs"]:
        for static in scrape["static_configs"]:
            assert {target.partition(":")[0] for target in static["targets"]} <= services.keys()
    mounted = {volume.split(":")[1] for volume in services["prometheus"]["volumes"]}
    assert str(Path(document["rule_files"][0]).parent) in mounted


def test_promtool_takes_the_rules_and_every_query_of_the_dashboards(tmp_path: Path) -> None:
    """Where Debian's `prometheus` is installed; elsewhere the tests above have read all of them."""
    groups = [{"name": "dashboards", "rules": [
        {"record": f"query:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(sorted(set(expressions())))
    ]}]  # fmt: skip
    queries = tmp_path / "queries.yml"
    queries.write_text(yaml.safe_dump({"groups": groups}))
    assert len(groups[0]["rules"]) > 50
    if promtool := shutil.which("promtool"):
        command = [promtool, "check", "rules", *map(str, RULES), str(queries)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
