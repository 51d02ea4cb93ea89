"""`manage.py semantic_eval PAIRS.tsv`: what each tier would serve of labelled pairs."""

import csv
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.caching.semantic import embedders, evaluate
from apps.caching.semantic.embedders import Embedder

_COLUMNS = {"prompt_a", "prompt_b", "label", "kind"}
_TIMED = 50


class Command(BaseCommand):
    help = (
        "Served share of each kind, precision, recall and latency of each tier, on a TSV of labelled pairs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", type=Path, help="columns prompt_a, prompt_b, label (1: same picture), kind, source"
        )
        parser.add_argument(
            "--embedder",
            choices=["minilm", "endpoint", "none"],
            default="minilm",
            help="none: tiers 1 and 2 only",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with options["file"].open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        if not rows or not set(rows[0]) >= _COLUMNS:
            raise CommandError(f"the file needs rows, and the columns {', '.join(sorted(_COLUMNS))}")
        try:
            embedder = embedders.named(options["embedder"])
        except embedders.EmbedderUnavailable as error:
            raise CommandError(str(error)) from error
        similar, p95_ms = _cosines(rows, embedder) if embedder else ([None] * len(rows), None)
        pairs = [
            evaluate.Pair(row["prompt_a"], row["prompt_b"], row["label"] == "1", row["kind"], cosine)
            for row, cosine in zip(rows, similar, strict=True)
        ]
        for line in evaluate.report(*evaluate.scores(pairs), p95_ms):
            self.stdout.write(line)


def _cosines(rows: Sequence[dict[str, str]], embedder: Embedder) -> tuple[list[float | None], float | None]:
    """Of each pair, and the 95th percentile of embedding one prompt alone."""
    texts = sorted({row[name] for row in rows for name in ("prompt_a", "prompt_b")}, key=len)
    # Batches of about the same length, so that little is padded.
    vectors = {
        text: vector
        for start in range(0, len(texts), 64)
        for text, vector in zip(
            texts[start : start + 64], embedder.embed(texts[start : start + 64]), strict=True
        )
    }
    took = []
    for text in texts[:: max(1, len(texts) // _TIMED)]:
        begun = time.perf_counter()
        embedder.embed([text])
        took.append((time.perf_counter() - begun) * 1000)
    found: list[float | None] = [
        sum(x * y for x, y in zip(vectors[row["prompt_a"]], vectors[row["prompt_b"]], strict=True))
        for row in rows
    ]
    return found, quantiles(took, n=20)[-1] if len(took) > 1 else None
