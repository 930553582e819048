"""What the service knows of itself: metrics, live numbers, drift, logs and traces."""

from serving.watch.requests import RequestContext
from serving.watch.watch import Watch

__all__ = ["RequestContext", "Watch"]
