"""Calls to a model behind the Messages protocol: format, retries, limits, time."""
