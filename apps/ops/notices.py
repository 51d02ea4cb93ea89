"""Tell people of alerts, by Apprise: e-mail, chat, pagers, webhooks, whatever ALERT_URLS names.

A notice is a row until its channel took it: at least once, and no more than once for each event of an alert. The
addresses hold secrets: rows and logs have a digest instead.
"""

import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final, Literal

from django.conf import settings
from django.utils.crypto import salted_hmac

from apps.core import bell, clock, rows
from apps.core.ids import uuid7
from apps.ops.models import Alert, Notice, Silence

Outcome = Literal["sent", "later", "given up", "nothing"]
# Who sends has this long; then it is due again. Apprise itself waits four seconds to connect and four to read.
_LEASE_S: Final = 60
_FIRST_DELAY_S: Final = 30
MAX_ATTEMPTS: Final = 8
_BATCH: Final = 100
# What is gone may be back in a moment: then nobody is told that it went.
RESOLVED_AFTER_S: Final = 15 * 60
_ORDER: Final = tuple(Alert.Severity.values)
_INSERT = """
INSERT INTO ops_notice (id, alert_id, event, channel, created_at, due_at, attempts, error)
VALUES (%(id)s, %(alert_id)s, %(event)s, %(channel)s, %(now)s, %(due_at)s, 0, '')
ON CONFLICT (alert_id, event, channel) DO NOTHING
"""


def channels(severity: str) -> dict[str, str]:
    """Digest → address of everybody who wants alerts of this severity: those named for it or for a lesser one."""
    wanting = _ORDER[: _ORDER.index(severity) + 1]
    return {digest(url): url for each in wanting for url in settings.ALERT_URLS.get(each, [])}


def digest(url: str) -> str:
    """Names an address without telling it."""
    return salted_hmac("ops.notices", url).hexdigest()[:16]


def queue(alert_id: uuid.UUID, *, key: str, severity: str, event: Notice.Event) -> int:
    """A notice for every channel, rung for after the commit; none while a silence covers the key. How many."""
    wanted = channels(severity)
    if not wanted or any(silence.covers(key) for silence in Silence.objects.in_force()):
        return 0
    return sum(_insert(alert_id, channel, event) for channel in wanted)


def resolved(alert_ids: Iterable[uuid.UUID]) -> None:
    """Who was told that it opened will be told that it is over, unless it comes back in the meantime."""
    told = Notice.objects.filter(alert__in=alert_ids, event=Notice.Event.OPENED)
    for alert_id, channel in told.values_list("alert_id", "channel"):
        _insert(alert_id, channel, Notice.Event.RESOLVED, after_s=RESOLVED_AFTER_S)


def not_resolved(key: str) -> None:
    """The alert goes on: who was not told of its end yet will not be."""
    Notice.objects.filter(alert__key=key, event=Notice.Event.RESOLVED, due_at__isnull=False).delete()


def send(notice_id: uuid.UUID) -> Outcome:
    """One attempt, if it is due and nobody else makes it."""
    now = clock.now()
    notice = Notice.objects.select_related("alert").filter(pk=notice_id, due_at__lte=now).first()
    if notice is None:
        return "nothing"
    attempts = notice.attempts + 1
    claim = Notice.objects.filter(pk=notice_id, due_at=notice.due_at, attempts=notice.attempts)
    if not claim.update(due_at=now + timedelta(seconds=_LEASE_S), attempts=attempts):
        return "nothing"
    mine = Notice.objects.filter(pk=notice_id, attempts=attempts)
    url = channels(Alert.Severity.CRITICAL).get(notice.channel)
    if url is None:
        mine.update(due_at=None, error="the channel is not in the settings any more")
        return "nothing"
    if _told(url, notice):
        mine.update(due_at=None, sent_at=clock.now(), error="")
        return "sent"
    due_at = None
    if attempts < MAX_ATTEMPTS:
        due_at = now + timedelta(seconds=_FIRST_DELAY_S * 2 ** (attempts - 1))
    mine.update(due_at=due_at, error="the channel did not take it")
    return "later" if due_at else "given up"


def sweep() -> int:
    """Rings for what is due: retries, and lost rings; and queues what no silence covers any more. How many."""
    untold = Alert.objects.open().filter(acknowledged_at=None).exclude(notices__event=Notice.Event.OPENED)
    if any(settings.ALERT_URLS.values()):
        for alert in untold.order_by("id")[:_BATCH]:
            queue(alert.pk, key=alert.key, severity=alert.severity, event=Notice.Event.OPENED)
    due = Notice.objects.filter(due_at__lte=clock.now()).order_by("due_at")
    ids = list(due.values_list("pk", flat=True)[:_BATCH])
    for notice_id in ids:
        bell.ring("ops.send_notice", id=notice_id, queue="io")
    return len(ids)


def problems() -> Iterator[str]:
    """What is wrong with the setting, without telling any address."""
    from apprise import Apprise

    for severity, urls in settings.ALERT_URLS.items():
        if severity not in _ORDER:
            yield f"{severity!r} is no severity: {', '.join(_ORDER)}"
        for number, url in enumerate(urls):
            if Apprise.instantiate(url) is None:
                yield f"address {number} of {severity!r} is none that Apprise understands"


def _insert(alert_id: uuid.UUID, channel: str, event: Notice.Event, after_s: float = 0) -> int:
    now = clock.now()
    notice_id = uuid7()
    values = {
        "id": notice_id,
        "alert_id": alert_id,
        "event": str(event),
        "channel": channel,
        "now": now,
        "due_at": now + timedelta(seconds=after_s),
    }
    inserted = rows.execute(_INSERT, values)
    if inserted and not after_s:
        bell.ring("ops.send_notice", id=notice_id, queue="io")
    return inserted


def _told(url: str, notice: Notice) -> bool:
    # Only who sends notices pays for the import.
    from apprise import Apprise, NotifyType

    alert, over = notice.alert, notice.event == Notice.Event.RESOLVED
    kinds = {"info": NotifyType.INFO, "warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}
    channel = Apprise()
    title = f"[{'resolved' if over else alert.severity}] {alert.kind}: {alert.subject}"
    page = f"{settings.PUBLIC_URL}/admin/ops/alert/{alert.pk}/change/"
    return bool(
        channel.add(url)
        and channel.notify(
            title=title[:250],
            body=f"{alert.message}\n\n{page}",
            notify_type=NotifyType.SUCCESS if over else kinds[alert.severity],
        )
    )
