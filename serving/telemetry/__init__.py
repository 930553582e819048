"""What the service knows about itself: metrics, a rolling window, drift, logs and traces."""
