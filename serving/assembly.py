"""All parts of the service, put together."""

from pathlib import Path

from starlette.applications import Starlette

from serving import page
from serving.http.app import build_app
from serving.interfaces import Escalator
from serving.service import ClassifierService
from serving.settings import Settings
from serving.telemetry import Telemetry


def build(bundle_dir: Path, settings: Settings) -> tuple[ClassifierService, Starlette]:
    """Return the service of a bundle and the application that speaks for it; neither has started yet.

    Raises:
        BundleError: the folder is no sound bundle.
        ConfigError: the decoder or the review store cannot be opened.
    """
    watch = Telemetry(settings)
    escalates = _escalation(settings, bundle_dir, watch)
    service = ClassifierService(bundle_dir, settings, watch, escalates, on_bundle=watch.set_bundle, on_stop=watch.close)
    app = build_app(service, settings, [*watch.routes(), *page.routes()])
    watch.attach(app)
    return service, app


def _escalation(settings: Settings, bundle_dir: Path, watch: Telemetry) -> Escalator | None:
    if settings.decoder.llm.model == "none":
        return None
    from serving.decoder.open_decoder import open_decoder  # with the database library, which only a decoder needs

    return open_decoder(settings, bundle_dir, watch)
