"""Ops' page of batches."""

from django.test import Client

from apps.accounts.models import User
from apps.batches.models import Batch
from apps.core import clock
from apps.core.ids import uuid7
from apps.jobs.models import Job, ProviderBatch
from tests.batches.lines import item, jsonl, post
from tests.factories import Someone


def test_ops_see_how_far_a_batch_is_find_its_jobs_and_cancel_it(pro: Someone) -> None:
    answer = post(pro, jsonl(item(1), {"custom_id": "bad"}, item(2)), "partial=true")
    batch_id = answer.json()["id"]
    post(pro, jsonl(item(3)))
    Batch.objects.filter(pk=batch_id).update(completed=1)
    root = Client()
    root.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    listed = root.get("/admin/batches/batch/", {"q": batch_id}).content.decode()
    assert "50\u00a0%" in listed
    assert 'style="width: 50.0%"' in listed
    assert "2, 1 completed, 1 refused" in listed
    order = ProviderBatch.objects.create(
        route_id=uuid7(), provider="openai", size=8, room=10, waited_s=1, done=2, due_at=clock.now()
    )
    orders = root.get("/admin/jobs/providerbatch/", {"q": str(order.pk)}).content.decode()
    assert 'style="width: 25.0%"' in orders
    page = root.get(f"/admin/batches/batch/{batch_id}/change/").content.decode()
    assert "2 bad type: Field required" in page
    jobs = root.get("/admin/jobs/job/", {"q": batch_id}).content.decode()
    shown = {str(job.pk) in jobs: job.custom_id for job in Job.objects.order_by("-id")}
    assert shown == {True: "item-1", False: "item-3"}
    chosen = {"action": "cancel", "_selected_action": [batch_id]}
    assert root.post("/admin/batches/batch/", chosen, follow=True).status_code == 200
    assert Batch.objects.get(pk=batch_id).status == "canceling"
