"""Telemetry of the service: metrics, a rolling window, drift detection, logs and traces."""
