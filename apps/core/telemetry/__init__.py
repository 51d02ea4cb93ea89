"""What the platform tells about itself: instruments (OpenTelemetry's API), where each process keeps what it counted,
the two ways out (Prometheus text, OTLP), and traces."""
