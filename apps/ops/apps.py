from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "apps.ops"

    def ready(self) -> None:
        """Connects the workers' sign of life, and the checks of the settings."""
        from apps.ops import checks, workers  # noqa: F401
