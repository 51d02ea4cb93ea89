from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "apps.ops"

    def ready(self) -> None:
        """Connects the workers' sign of life."""
        from apps.ops import workers  # noqa: F401
