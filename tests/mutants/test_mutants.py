"""Takes each handling of a fault out of a copy of the tree, and sees that the tests notice. Minutes: `-m long`.

The copies' tests run on one Postgres and one Redis, apart from those of this run, in processes of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from genplatform.stack import embedded
from tests.mutants import crashes, provider_faults
from tests.mutants.mutant import ROOT, Mutant

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MUTANTS = (*provider_faults.MUTANTS, *crashes.MUTANTS)
# What hangs without its handling is given up after so long.
_GIVEN_UP_S = 20
_KEPT = ("apps", "genplatform", "tests", "docs", "pyproject.toml", "manage.py")
# How a report begins that is a test's own word.
_SAID = re.compile(r"(AssertionError|assert |Failed|TimeoutError)")


@dataclass(frozen=True)
class Copy:
    """The tree, and the servers for its tests."""

    root: Path
    environ: dict[str, str]

    def run(self, *tests: str) -> dict[str, list[str]]:
        """What the tests, by id, complain of: the begin of each report of a failure, nothing for a success."""
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        arguments = ["-q", "-p", "no:cacheprovider", "--reuse-db", f"--timeout={_GIVEN_UP_S}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments, f"--junitxml={report}", *tests],
            cwd=self.root,
            env=self.environ,
            capture_output=True,
            text=True,
        )
        assert report.is_file(), done.stdout + done.stderr
        return _complaints(report, tests)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    run = tmp_path_factory.mktemp("mutants")
    root = run / "tree"
    root.mkdir()
    for name in _KEPT:
        kept = ROOT / name
        if kept.is_dir():
            shutil.copytree(kept, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(kept, root / name)
    # What was compiled of a file must not outlive it: by its content, for two mutants fit into one second.
    compiled = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "checked-hash",
        "apps",
        "genplatform",
    ]
    subprocess.run(compiled, cwd=root, check=True)
    servers = [embedded.postgres(run, durable=False), embedded.redis(run, durable=False)]
    ours = {
        "DATABASE_URL": servers[0].url,
        "REDIS_URL": servers[1].url,
        "ARTIFACT_STORAGE_OPTIONS": f'{{"location": "{run}/artifacts"}}',
        "METRICS_DIR": f"{run}/metrics",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    theirs = ("PYTEST_", "BROKER_URL", "CACHE_REDIS_URL", "DJANGO_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    yield Copy(root, environ | ours)
    for server in servers:
        server.stop()


def test_all_of_them_pass_on_the_copy_as_it_is(copy: Copy) -> None:
    tests = dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests)
    found = copy.run(*tests)
    assert {test: said for test, said in found.items() if said != [""] * len(said)} == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_without_its_handling_a_fault_is_noticed(copy: Copy, mutant: Mutant) -> None:
    file = copy.root / mutant.file
    whole = file.read_text()
    file.write_text(mutant.mutated())
    try:
        found = copy.run(*mutant.tests)
    finally:
        file.write_text(whole)
    for test, said in found.items():
        assert any(_is_noticed(one, mutant.raises) for one in said), (test, said)


def _is_noticed(said: str, raises: str) -> bool:
    return bool(_SAID.match(said)) or bool(raises and re.match(rf"[\w.]*\b{raises}\b", said))


def _complaints(report: Path, tests: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {test: [] for test in tests}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        ends = [end.get("message", "?") for end in case if end.tag in ("failure", "error", "skipped")]
        for test in tests:
            if name == test or name.partition("[")[0] == test:
                found[test].append(" / ".join(ends))
    missing = [test for test, said in found.items() if not said]
    assert not missing, f"did not run: {missing}"
    return found
