from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apps.accounts"

    def ready(self) -> None:
        # Both register themselves when imported.
        from apps.accounts import checks, schema  # noqa: F401
