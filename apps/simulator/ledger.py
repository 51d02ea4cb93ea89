"""What the provider knows happened: submits received, tasks, charges and webhooks, in SQLite.

Tests read it to compare the provider's bill with the platform's books. In a file it outlives the
process, so a restarted simulator still knows its tasks.
"""

import sqlite3
import time
from decimal import Decimal
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submits (
    id INTEGER PRIMARY KEY, received_at REAL NOT NULL, model TEXT NOT NULL, idempotency_key TEXT,
    webhook_url TEXT, body_sha256 TEXT NOT NULL, task_id TEXT, outcome TEXT NOT NULL,
    protocol TEXT NOT NULL DEFAULT 'wavespeed');
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL, created_at REAL NOT NULL,
    ends_at REAL NOT NULL, spec TEXT NOT NULL, protocol TEXT NOT NULL DEFAULT 'wavespeed');
CREATE INDEX IF NOT EXISTS tasks_latest ON tasks (created_at);
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, charged_at REAL NOT NULL, task_id TEXT NOT NULL, model TEXT NOT NULL,
    amount_usd TEXT NOT NULL, protocol TEXT NOT NULL DEFAULT 'wavespeed');
CREATE INDEX IF NOT EXISTS charges_task ON charges (task_id);
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY, sent_at REAL NOT NULL, task_id TEXT NOT NULL, webhook_id TEXT NOT NULL,
    url TEXT NOT NULL, attempt INTEGER NOT NULL, status INTEGER, error TEXT,
    protocol TEXT NOT NULL DEFAULT 'wavespeed');
CREATE INDEX IF NOT EXISTS webhooks_task ON webhooks (task_id);
CREATE TABLE IF NOT EXISTS calls (
    protocol TEXT NOT NULL, action TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (protocol, action));
"""
# The only names ever put into a statement: table → its column of time and its column that names the task.
_TABLES = {
    "submits": ("received_at", "task_id"),
    "tasks": ("created_at", "id"),
    "charges": ("charged_at", "task_id"),
    "webhooks": ("sent_at", "task_id"),
}


class Ledger:
    """One connection, used by the event loop only; every write is committed at once."""

    def __init__(self, path: str | None) -> None:
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # A killed process loses nothing this way; only a power cut could.
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
        for table in _TABLES:
            self._add_protocol(table)

    def close(self) -> None:
        self._db.close()

    def _add_protocol(self, table: str) -> None:
        """A file of before there were several protocols."""
        columns = {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}
        if "protocol" not in columns:
            self._db.execute(f"ALTER TABLE {table} ADD COLUMN protocol TEXT NOT NULL DEFAULT 'wavespeed'")

    def submit(
        self,
        *,
        protocol: str,
        model: str,
        idempotency_key: str | None,
        webhook_url: str | None,
        body_sha256: str,
        outcome: str,
    ) -> int:
        """Returns the row's id, for `accepted` to name the task later."""
        cursor = self._db.execute(
            "INSERT INTO submits"
            " (received_at, protocol, model, idempotency_key, webhook_url, body_sha256, outcome)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (time.time(), protocol, model, idempotency_key, webhook_url, body_sha256, outcome),
        )
        return cursor.lastrowid or 0

    def outcome(self, submit_id: int, outcome: str, *, task_id: str | None = None) -> None:
        self._db.execute(
            "UPDATE submits SET outcome = ?, task_id = ? WHERE id = ?", (outcome, task_id, submit_id)
        )

    def save_task(
        self,
        *,
        task_id: str,
        protocol: str,
        model: str,
        state: str,
        created_at: float,
        ends_at: float,
        spec: str,
    ) -> None:
        self._db.execute(
            "INSERT INTO tasks (id, protocol, model, state, created_at, ends_at, spec)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, ends_at = excluded.ends_at",
            (task_id, protocol, model, state, created_at, ends_at, spec),
        )

    def charge(self, *, task_id: str, protocol: str, model: str, amount_usd: Decimal) -> None:
        """A negative amount is a refund."""
        self._db.execute(
            "INSERT INTO charges (charged_at, task_id, protocol, model, amount_usd) VALUES (?, ?, ?, ?, ?)",
            (time.time(), task_id, protocol, model, format(amount_usd, "f")),
        )

    def charged_usd(self, task_id: str) -> Decimal:
        amounts = self._db.execute("SELECT amount_usd FROM charges WHERE task_id = ?", (task_id,))
        return sum((Decimal(row[0]) for row in amounts), Decimal(0))

    def webhook(
        self,
        *,
        task_id: str,
        protocol: str,
        webhook_id: str,
        url: str,
        attempt: int,
        status: int | None,
        error: str | None,
    ) -> None:
        self._db.execute(
            "INSERT INTO webhooks (sent_at, task_id, protocol, webhook_id, url, attempt, status, error)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (time.time(), task_id, protocol, webhook_id, url, attempt, status, error),
        )

    def call(self, protocol: str, action: str) -> None:
        """Counts what has no row of its own: `poll`, `cancel`, and `dead`, a request while the protocol was dead."""
        self._db.execute(
            "INSERT INTO calls (protocol, action, count) VALUES (?, ?, 1)"
            " ON CONFLICT (protocol, action) DO UPDATE SET count = count + 1",
            (protocol, action),
        )

    def task(self, task_id: str) -> dict[str, Any] | None:
        row = self._db.execute("SELECT * FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return dict(row) if row else None

    def open_tasks(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM tasks WHERE state = 'open'")

    def latest_tasks(
        self, limit: int, *, protocol: str | None = None, before: float | None = None
    ) -> list[dict[str, Any]]:
        """The newest first, of those accepted `before` this time (Unix seconds)."""
        return self._rows(
            "SELECT * FROM tasks WHERE (? IS NULL OR protocol = ?) AND (? IS NULL OR created_at < ?)"
            " ORDER BY created_at DESC LIMIT ?",
            (protocol, protocol, before, before, limit),
        )

    def entries(
        self, *, task_id: str | None, since: float, protocol: str | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        """Every table's rows in the order written; `since` in Unix seconds, inclusive."""
        return {
            table: self._rows(
                f"SELECT * FROM {table} WHERE {at} >= ?"  # noqa: S608
                f" AND (? IS NULL OR {task} = ?) AND (? IS NULL OR protocol = ?) ORDER BY rowid",
                (since, task_id, task_id, protocol, protocol),
            )
            for table, (at, task) in _TABLES.items()
        }

    def summary(self, protocol: str | None = None) -> dict[str, Any]:
        """Totals, of one protocol or of all."""
        only, mine = " WHERE ? IS NULL OR protocol = ?", (protocol, protocol)
        counts = {
            table: self._db.execute(f"SELECT count(*) FROM {table}{only}", mine).fetchone()[0]  # noqa: S608
            for table in _TABLES
        }
        states = self._db.execute(f"SELECT state, count(*) FROM tasks{only} GROUP BY state", mine).fetchall()  # noqa: S608
        amounts = self._db.execute(f"SELECT amount_usd FROM charges{only}", mine)  # noqa: S608
        calls = dict.fromkeys(("poll", "cancel", "dead"), 0)
        for row in self._db.execute(f"SELECT action, sum(count) FROM calls{only} GROUP BY action", mine):  # noqa: S608
            calls[row[0]] = row[1]
        total = sum((Decimal(row[0]) for row in amounts), Decimal(0))
        return {
            **counts,
            "tasks_by_state": dict(map(tuple, states)),
            "charged_usd": format(total, "f"),
            "calls": calls,
        }

    def clear(self) -> None:
        for table in (*_TABLES, "calls"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute(query, parameters)]
