"""Serves the OpenAPI document at `/openapi.json`, and at `/docs` a self-contained page that shows it to people."""

import re
from functools import cache
from html import escape
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.http.openapi import build_openapi

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { font-weight: 600; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } pre { background: #f5f5f5; padding: .8rem; overflow: auto; }
details { margin: .4rem 0; border: 1px solid #ddd; border-radius: 4px; padding: .4rem .8rem; }
summary { cursor: pointer; } .method { display: inline-block; min-width: 3.5rem; font-weight: 600; color: #06c; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
"""

CODE = re.compile("`([^`]+)`")


def docs_routes() -> list[Route]:
    """Build the routes of the document and of the page."""
    return [Route("/openapi.json", _openapi, methods=["GET"]), Route("/docs", _docs, methods=["GET"])]


@cache
def openapi_json() -> bytes:
    """Encode the OpenAPI document, once."""
    return msgspec.json.encode(build_openapi())


@cache
def docs_html() -> str:
    """Render the page: each operation with its parameters, body and replies, and the schemas that they refer to."""
    document = build_openapi()
    tags: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, entry in methods.items():
            tags.setdefault(entry["tags"][0], []).append(_operation(path, method, entry))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(entries)}" for tag, entries in tags.items())
    schemas = "".join(_schema_entry(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}: routes</title>'
        f"<style>{STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f'<p>{escape(info["description"])}</p><p><a href="openapi.json">openapi.json</a></p>'
        f"{sections}<h2>Schemas</h2>{schemas}</html>"
    )


async def _openapi(_request: Request) -> Response:
    return Response(openapi_json(), media_type="application/json")


async def _docs(_request: Request) -> Response:
    return Response(docs_html(), media_type="text/html")


def _operation(path: str, method: str, entry: dict[str, Any]) -> str:
    about = f"<p>{_with_code(entry['description'])}</p>" if "description" in entry else ""
    body = f"<p>Body: {_schema_link(_schema(entry['requestBody']))}</p>" if "requestBody" in entry else ""
    rows = "".join(
        f"<tr><td>{status}<td>{escape(reply['description'])}<td>{_schema_link(_schema(reply))}"
        for status, reply in entry["responses"].items()
    )
    parameters = "".join(
        f"<li><code>{escape(parameter['name'])}</code> ({parameter['in']}) {escape(parameter.get('description', ''))}"
        for parameter in entry["parameters"]
    )
    return (
        f'<details><summary><span class="method">{method.upper()}</span> <code>{escape(path)}</code> '
        f"{escape(entry['summary'])}</summary>{about}<ul>{parameters}</ul>{body}<table>{rows}</table></details>"
    )


def _with_code(text: str) -> str:
    return CODE.sub(r"<code>\1</code>", escape(text))


def _schema(part: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = part["content"]["application/json"]["schema"]
    return schema


def _schema_entry(name: str, schema: dict[str, Any]) -> str:
    text = escape(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>'


def _schema_link(schema: dict[str, Any]) -> str:
    """Render a link to a named schema, or the schema itself if it has no name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}"><code>{name}</code></a>'
    return f"<code>{escape(msgspec.json.encode(schema).decode())}</code>"
