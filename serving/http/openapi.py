"""The OpenAPI document, generated from what the protocols declare and the structs that they decode and encode."""

from typing import Any

import msgspec

from hybrid import __version__
from serving.http.middleware import REQUEST_ID
from serving.protocols.all import PROTOCOLS
from serving.protocols.operation import TIMEOUT_HEADER, Operation, WireProtocol

REF = "#/components/schemas/{name}"
MEANINGS = {
    400: "The body is not valid JSON, or does not match the schema.",
    401: "There is no API key, or it is not valid.",
    403: "The caller may not do this here.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    413: "The body, the number of items or a text is over a limit.",
    414: "The URL is over the limit.",
    415: "The media type, charset or encoding is not supported.",
    421: "The header Host does not name this service.",
    422: "The request is well formed, but this bundle cannot answer it.",
    429: "The service is overloaded; Retry-After has the seconds to wait.",
    431: "A header is over the limit, or there are too many.",
    500: "An internal error; the log has the details under the request id.",
    503: "The service is starting, stopping or replacing its engine; Retry-After has the seconds to wait.",
    504: "The caller's deadline passed; the message names the stage.",
}
STATUSES_WITHOUT_BODY = (400, 401, 414, 421, 431, 500)
STATUSES_WITH_BODY = (400, 401, 403, 404, 408, 413, 414, 415, 421, 422, 429, 431, 500, 503, 504)


def build_openapi() -> dict[str, Any]:
    """Build the OpenAPI 3.1 document."""
    types = [body for protocol in PROTOCOLS for body in _types(protocol)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for protocol in PROTOCOLS:
        for operation in protocol.operations:
            entry = _entry(operation, protocol, schema_of)
            paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    page = {
        "openapi": "3.1.0",
        "info": {"title": "hybrid", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "./"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }
    # msgspec qualifies structs of equal names by their module; the name of the protocol is enough.
    return msgspec.json.decode(msgspec.json.encode(page).replace(b"serving.protocols.", b""), type=dict[str, Any])


_ABOUT = (
    "A text classifier with calibrated probabilities that escalates texts of which it is not sure. Every reply has the "
    f"headers {REQUEST_ID} and Server-Timing (milliseconds per stage). Bodies are JSON in UTF-8, plain or gzip; if a key "
    "is repeated, the last value counts."
)
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def _types(protocol: WireProtocol) -> list[Any]:
    requests = [operation.asks for operation in protocol.operations if operation.asks is not None]
    return [protocol.error_type, *requests, *(operation.reply for operation in protocol.operations)]


def _entry(operation: Operation, protocol: WireProtocol, schema_of: dict[str, Any]) -> dict[str, Any]:
    statuses = STATUSES_WITHOUT_BODY if operation.asks is None else STATUSES_WITH_BODY
    if "{" in operation.path or operation.public:
        statuses = tuple(sorted({*statuses, 404, 503}))
    replies = {"200": _content("The answer.", schema_of[repr(operation.reply)])}
    error = schema_of[repr(protocol.error_type)]
    replies |= {str(status): _content(MEANINGS[status], error) for status in statuses}
    entry: dict[str, Any] = {
        "tags": [protocol.name],
        "summary": operation.title,
        "operationId": f"{operation.method.lower()}_{operation.path.strip('/').replace('/', '_')}",
        "parameters": _parameters(operation),
        "responses": replies,
        "security": [] if operation.public else [{"bearer": []}, {"header": []}, {}],
    }
    if operation.about:
        entry["description"] = operation.about
    if operation.asks is not None:
        entry["requestBody"] = _content(None, schema_of[repr(operation.asks)]) | {"required": True}
    return entry


def _content(description: str | None, schema: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"content": {"application/json": {"schema": schema}}}
    return content if description is None else {"description": description} | content


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    timeout = {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "How long the caller waits, in milliseconds; after that the service stops working on the request.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
        timeout,
    ]
