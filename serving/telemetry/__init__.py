"""What the service knows of itself: metrics, live numbers, drift, logs and traces."""

from serving.telemetry.observer import Telemetry
from serving.telemetry.request_context import RequestContext

__all__ = ["RequestContext", "Telemetry"]
