"""All parts of the service, put together."""

from pathlib import Path

from starlette.applications import Starlette

from serving.app import build_app
from serving.live_service import LiveService
from serving.quiet import Quiet
from serving.settings import Settings


def build(bundle_dir: Path, settings: Settings) -> tuple[LiveService, Starlette]:
    """Return the service of a bundle and the application that speaks for it; neither has started yet.

    Raises:
        BundleError: the folder is no sound bundle.
        ConfigError: the decoder or the review store cannot be opened.
    """
    service = LiveService(bundle_dir, settings, Quiet())
    return service, build_app(service, settings)
