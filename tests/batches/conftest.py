"""Batches over HTTP as a client sees them, in process; the provider is the simulator, driven step by step."""

from tests.api.conftest import _books, _catalog, pro, simulator, simulator_process, stored, work

__all__ = ["_books", "_catalog", "pro", "simulator", "simulator_process", "stored", "work"]
