"""`serving/http/connection.py` builds on parts of uvicorn that are not public, so uvicorn is pinned to a minor release."""

from importlib.metadata import version
from pathlib import Path

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.http.connection import BoundedHttpProtocol

TESTED = "0.54"
OVERRIDDEN = {
    "connection_made",
    "connection_lost",
    "data_received",
    "on_header",
    "on_message_begin",
    "on_headers_complete",
    "on_message_complete",
    "on_response_complete",
    "on_url",
    "pause_writing",
    "resume_writing",
    "send_400_response",
    "_unsupported_upgrade_warning",
}


def test_uvicorn_is_of_the_minor_release_that_the_connection_was_written_for() -> None:
    installed = version("uvicorn")
    assert installed.startswith(f"{TESTED}."), (
        f"uvicorn {installed}: read uvicorn/protocols/http/httptools_impl.py of that release against "
        "serving/http/connection.py, run tests/serving/test_wire.py, then change TESTED and pyproject.toml"
    )


def test_every_method_of_uvicorn_that_is_overridden_is_still_there() -> None:
    assert {
        name
        for name, value in vars(BoundedHttpProtocol).items()
        if callable(value) and hasattr(HttpToolsProtocol, name)
    } == OVERRIDDEN


def test_chunks_of_a_body_are_collected_without_copying_all_of_it_for_each() -> None:
    source = Path(RequestResponseCycle.__init__.__code__.co_filename).read_text()
    assert "self.body = bytearray()" in source
