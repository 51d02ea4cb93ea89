from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "apps.ops"

    def ready(self) -> None:
        """Connects the checks of the settings."""
        from apps.ops import checks  # noqa: F401
