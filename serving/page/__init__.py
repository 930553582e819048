"""The page at `/`: try a text, paste a column, choose a threshold, and see how the service does."""

from serving.page.files import routes

__all__ = ["routes"]
