from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "apps.core"

    def ready(self) -> None:
        """Connects the workers' sign of life. What is recorded from now on is kept, and traces are made if somebody
        collects them."""
        from apps.core import workers  # noqa: F401
        from apps.core.telemetry import meter, tracing

        meter.start()
        tracing.start()
