from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"

    def ready(self) -> None:
        """What is recorded from now on is kept."""
        from apps.core.telemetry import meter

        meter.start()
