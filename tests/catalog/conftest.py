"""The catalog of the file, in the database and freshly read. Every test begins with no snapshot."""

from collections.abc import Iterator

import pytest

from apps.catalog import snapshot, sync


@pytest.fixture(autouse=True)
def _no_snapshot() -> Iterator[None]:
    snapshot.forget()
    yield
    snapshot.forget()


@pytest.fixture
def catalog(db: None) -> snapshot.Catalog:
    sync.sync()
    return snapshot.current()
