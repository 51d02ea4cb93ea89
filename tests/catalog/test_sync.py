from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection

from apps.catalog import sync
from apps.catalog.models import GenerationModel, Price, Route

pytestmark = pytest.mark.django_db


def variant(tmp_path: Path, change: str, to: str) -> Path:
    text = sync.FILE.read_text()
    assert text.count(change) == 1, change
    path = tmp_path / "catalog.yaml"
    path.write_text(text.replace(change, to))
    return path


PREMIUM = "name: Premium\n    kind: image\n    quality: 9"


def premium() -> Route:
    return Route.objects.get(model="premium", provider="wavespeed")


def test_a_first_sync_creates_everything_and_a_second_changes_nothing() -> None:
    models = yaml.safe_load(sync.FILE.read_text())["models"]
    routes = sum(len(model["routes"]) for model in models.values())
    assert len(sync.sync()) == len(models) + 2 * routes  # each route with its price
    assert sync.sync() == []
    assert premium().provider_model == "wavespeed-ai/premium"
    assert premium().prices.get().unit_price_usd == Decimal("0.08")


def test_a_changed_price_becomes_a_new_version_and_the_old_one_stays(tmp_path: Path) -> None:
    sync.sync()
    assert len(sync.sync(variant(tmp_path, '"0.08"}', '"0.09"}'))) == 1
    prices = premium().prices.order_by("version")
    assert [(price.version, price.unit_price_usd) for price in prices] == [
        (1, Decimal("0.08")),
        (2, Decimal("0.09")),
    ]


def test_a_changed_model_is_updated_and_said(tmp_path: Path) -> None:
    sync.sync()
    changes = sync.sync(variant(tmp_path, PREMIUM, PREMIUM.replace("9", "10")))
    assert changes == ["model premium: quality 9 → 10"]
    assert GenerationModel.objects.get(slug="premium").quality == 10


def test_an_edit_of_ops_is_kept_and_said(tmp_path: Path) -> None:
    sync.sync()
    GenerationModel.objects.filter(slug="premium").update(quality=8, managed=False)
    changes = sync.sync()
    assert changes == ["kept model premium: it was edited in the admin (quality differ)"]
    assert GenerationModel.objects.get(slug="premium").quality == 8


def test_a_price_set_in_the_admin_is_kept() -> None:
    sync.sync()
    route = premium()
    Price.objects.create(route=route, version=2, unit="image", unit_price_usd=Decimal("0.5"), managed=False)
    assert "was set in the admin" in sync.sync()[0]
    assert route.prices.count() == 2


@pytest.mark.parametrize(
    ("change", "to"),
    [
        (PREMIUM, PREMIUM.replace("9", "11")),
        (PREMIUM, PREMIUM.replace("quality", "qualty")),
        ("kind: video", "kind: hologram"),
        ('"0.08"}', "0.08}"),
        ('"0.08"}', '"-1"}'),
        ('"0.08"}', '"0.08", batch_discount: 0.5}'),
        ('"0.08"}', '"0.08", batch_discount: "1.5"}'),
        ("unit: second", "unit: fortnight"),
        ("max_megapixels: 9", "max_megapickles: 9"),
        ("{1080p: ", "{1080p: 1.5, 4k: "),
        ("resolution: 720p,", "resolution: 8k,"),
        ("defaults: {duration_s: 5, ", "defaults: {"),
        ("models:", "models: ["),
        ("provider: wavespeed\n        provider_model: wavespeed-ai/premium", "provider_model: x"),
        # Some request would have no price.
        ('"2.097152": "2", "3.145728": "3"}', '"2.097152": "2"}'),
        ('1024x1536: "6240", else: "6240"', '1024x1536: "6240"'),
        ("{1080p: ", "{1080: "),
    ],
)
def test_a_bad_file_is_refused_and_changes_nothing(tmp_path: Path, change: str, to: str) -> None:
    with pytest.raises(sync.CatalogFileError):
        sync.sync(variant(tmp_path, change, to))
    assert not GenerationModel.objects.exists()


def test_the_command_prints_what_changed() -> None:
    out = StringIO()
    call_command("sync_catalog", stdout=out)
    assert "new model standard" in out.getvalue()
    again = StringIO()
    call_command("sync_catalog", stdout=again)
    assert again.getvalue() == "nothing to change\n"


def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    sync.sync()
    out, file = StringIO(), variant(tmp_path, '"0.08"}', '"0.09"}')
    call_command("sync_catalog", str(file), "--dry-run", stdout=out)
    assert (
        "price of route premium via wavespeed (wavespeed-ai/premium): $0.09 per image (v2)" in out.getvalue()
    )
    assert premium().prices.count() == 1
    assert len(sync.sync(file)) == 1


def test_a_list_looked_at_again_is_no_new_price(tmp_path: Path) -> None:
    sync.sync()
    text = sync.FILE.read_text().replace("priced_on: 2026-05-25", "priced_on: 2026-11-01")
    file = tmp_path / "later.yaml"
    file.write_text(text)
    assert sync.sync(file) == []


def test_what_a_route_does_with_its_money_is_read_from_the_file(tmp_path: Path) -> None:
    hedged = 'provider_model: wavespeed-ai/premium\n        weight: 3\n        hedge_max_usd: "0.1"'
    sync.sync(variant(tmp_path, "provider_model: wavespeed-ai/premium", hedged))
    assert (premium().weight, premium().hedge_max_usd) == (3, Decimal("0.1"))


def test_the_command_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"absent\.yaml"):
        call_command("sync_catalog", str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize("sql", ["UPDATE catalog_price SET unit_price_usd = 0", "DELETE FROM catalog_price"])
def test_the_database_refuses_to_change_a_price(sql: str) -> None:
    sync.sync()
    with pytest.raises(IntegrityError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(sql)


def test_the_file_is_yaml_that_names_every_kind() -> None:
    models = yaml.safe_load(sync.FILE.read_text())["models"].values()
    assert {model["kind"] for model in models} == set(GenerationModel.Kind.values)
