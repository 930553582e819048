"""From a request to a call of the service and back: limits, keys, errors, the pages that describe the routes."""
