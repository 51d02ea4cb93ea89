"""`python -m tests.benchmarks.checks`: what looking at an output takes, and what a web process holds without it.

CPU time of this process, the least of a few rounds: marking included, models not.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.benchmarks import cpu
from tests.benchmarks.usage import platform

console = Console(soft_wrap=True)
ROUNDS = 5
_WEB = (
    "import django; django.setup(); import genplatform.wsgi; from django.urls import get_resolver;"
    " get_resolver().url_patterns; print('up', flush=True); input()"
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="genplatform-bench-") as folder, platform():
        from django.conf import settings
        from django.core.management import call_command

        settings.MARK_DIR = folder
        call_command("migrate", verbosity=0)
        console.print("| what | CPU-ms |\n|---|---|")
        for name, look in _looks(Path(folder)):
            console.print(f"| {name} | {_least_ms(look):.0f} |")
        console.print(f"A web process with all its routes: {_web_mb():.0f} MB")


def _looks(folder: Path) -> list[tuple[str, Callable[[], None]]]:
    from apps.validation import output
    from tests.validation import media, photos

    picture, jpeg = folder / "picture.png", folder / "picture.jpg"
    picture.write_bytes(photos.png(photos.render(1, 1024)))
    photos.render(1, 1024).save(jpeg, "JPEG", quality=92)
    film = media.clip(folder / "film.mp4", duration_s=5, size=(1280, 720))
    speech = media.tone(folder / "speech.mp3", duration_s=30, codec="mp3")

    def look(path: Path, kind: str, media_type: str) -> Callable[[], None]:
        def once() -> None:
            report = output.check(path, kind=kind, media_type=media_type, requested={}, prompt="a fox")
            assert report.passed, report
            assert output.marked(report, path, media_type=media_type)[1]

        return once

    return [
        ("PNG of 1024 × 1024", look(picture, "image", "image/png")),
        ("JPEG of 1024 × 1024", look(jpeg, "image", "image/jpeg")),
        ("MP4 of 5 s, 1280 × 720, 10 frames a second", look(film, "video", "video/mp4")),
        ("MP3 of 30 s", look(speech, "audio", "audio/mpeg")),
    ]


def _least_ms(look: Callable[[], None]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        look()
        took.append((time.process_time() - began) * 1000)
    return min(took)


def _web_mb() -> float:
    web = subprocess.Popen([sys.executable, "-c", _WEB], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert web.stdout
        web.stdout.readline()
        return cpu.rss_mb(web.pid)
    finally:
        web.communicate(b"\n")


if __name__ == "__main__":
    main()
