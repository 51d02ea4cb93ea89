"""The yardstick: what a team would write in an afternoon. A DRF view that inserts a row and calls `apply_async`.

Same web server, pool, Postgres and Redis as the platform; no key, limit, price, cache, budget or idempotency.
"""

import os
from typing import Any

import django
from celery import Celery
from django.conf import settings

settings.configure(
    SECRET_KEY="bench" * 10,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["rest_framework"],
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    },
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": os.environ["BARE_PGPORT"],
            "USER": os.environ["BARE_PGUSER"],
            "NAME": os.environ["BARE_PGDATABASE"],
            "OPTIONS": {"pool": {"min_size": 2, "max_size": 10}},
        }
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - Django first
from django.db import connection, models, transaction  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework import serializers  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

celery = Celery("bare", broker=os.environ["BARE_BROKER_URL"], set_as_current=False)


class Item(models.Model):
    type = models.CharField(max_length=8)
    prompt = models.TextField()
    model = models.CharField(max_length=100)
    params = models.JSONField(default=dict)
    status = models.CharField(max_length=9, default="queued")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "bare"


class ItemSerializer(serializers.ModelSerializer[Item]):
    class Meta:
        model = Item
        fields = ["id", "type", "prompt", "model", "params", "status", "created_at"]
        read_only_fields = ["status"]


class Items(APIView):
    def post(self, request: Request) -> Response:
        serializer = ItemSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            item: Any = serializer.save()
            transaction.on_commit(lambda: celery.send_task("bare.run", kwargs={"id": item.pk}, queue="bare"))
        return Response(serializer.data, status=202)


urlpatterns = [path("items", Items.as_view())]
application = get_wsgi_application()


def create_table() -> None:
    with connection.schema_editor() as schema:
        schema.create_model(Item)


if __name__ == "__main__":
    create_table()
