"""The API's description (OpenAPI 3.1), made from the table of operations.

``python -m serve_apps.api.openapi > openapi.json`` writes what the repository keeps.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

import msgspec
import pydantic
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from domain.identity.rules import IdentityCode
from serve_apps.api.routing import KEY_LENGTH_MAX, Operation
from serve_apps.gateway import caching
from serve_apps.problems import sentence, status_of

VERSION: Final = "1"
FRESH_S: Final = 300
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_FORM_TYPE: Final = "application/x-www-form-urlencoded"

_PATH_PARAMETERS: Final = {
    "user": ("Your customer number", r"^[1-9][0-9]{9}$"),
    "account": ("Account number", r"^[1-9][0-9]{13}$"),
    "transfer": ("A transfer's id", r"^[0-9a-f]{32}$"),
    "hold": ("A hold's id", r"^[0-9a-f]{32}$"),
    "session": ("A session's number", r"^[0-9]{1,18}$"),
    "symbol": ("An instrument: base and quote, such as `BTCUSD`", r"^[A-Z0-9]{4,20}$"),
    "notification": ("A notification's `seq`", r"^[0-9]{1,18}$"),
    "key": ("An API key's number", r"^[0-9]{1,18}$"),
    "order": ("An order's number", r"^[0-9]{1,18}$"),
    "customer": ("A customer's number", r"^[1-9][0-9]{9}$"),
    "adjustment": ("An adjustment's id", r"^[0-9a-f]{32}$"),
    "confirmation": ("A confirmation's id", r"^[0-9a-f]{32}$"),
    "webhook": ("A webhook endpoint's number", r"^[0-9]{1,18}$"),
    "message": ("A delivery's number", r"^[0-9]{1,18}$"),
    "role": ("A role", r"^[a-z]{1,40}$"),
}

_INTRODUCTION: Final = """\
Accounts in several currencies, and money between them.

Amounts are decimal strings (`"12.50"`), times RFC 3339 in UTC. Bodies are JSON or forms. Get a
token from `/api/login/` and send it as `Authorization: Bearer ...`; what is not yours does not
exist for you (404). A refusal is a problem document (RFC 9457, `application/problem+json`) whose
`code` is stable. Where a request carries an `Idempotency-Key`, sending it again with the same key
answers the same and does nothing twice; with another body it is refused (`id_reused`). After a 503
with `outcome_unknown` do just that: ask again with the same key.
"""

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457).",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "A sentence for people"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; for programs"},
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What was wrong",
        },
    },
}


def description(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kontor",
            "version": VERSION,
            "description": _INTRODUCTION,
            "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(item.tag for item in operations)],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **_schemas(operations)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "From /api/login/"}
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(operation),
        "responses": _responses(operation),
        "security": [] if operation.access == "anyone" else [{"token": []}],
    }
    said = [operation.description] if operation.description else []
    if operation.restricted:
        said.append(f"Needs the permission `{operation.permission}`.")
    if said:
        result["description"] = " ".join(said)
    if operation.body is not None:
        content = {"schema": _ref(operation.body), "example": operation.body_example}
        types = ["application/json"]
        types.append("application/msgpack" if operation.msgpack else _FORM_TYPE)
        result["requestBody"] = {"required": True, "content": dict.fromkeys(types, content)}
    return result


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name in _PARAMETER.findall(operation.path):
        text, pattern = _PATH_PARAMETERS[name]
        schema = {"type": "string", "pattern": pattern}
        parameters.append(
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        )
    for item in operation.parameters:
        schema_: dict[str, Any] = {"type": "string"}
        if item.choices:
            schema_["enum"] = list(item.choices)
        entry = {"name": item.name, "in": "query", "description": item.description}
        entry["schema"] = schema_  # type: ignore[assignment]
        if item.example:
            schema_["examples"] = [item.example]
        parameters.append(entry)
    if operation.key != "none":
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": operation.key == "required",
                "description": "Makes the request repeatable; your own, new for each purpose",
                "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX},
            }
        )
    return parameters


def _responses(operation: Operation) -> dict[str, Any]:
    told = {
        "schema": {"type": "string"} if operation.answer is str else _ref(operation.answer),
        "example": operation.answer_example,
    }
    types = [operation.answer_type, *(["application/msgpack"] if operation.msgpack else [])]
    responses: dict[str, Any] = {
        str(operation.status): {"description": "Done", "content": dict.fromkeys(types, told)}
    }
    if operation.fresh_s:
        responses["304"] = {"description": "As `If-None-Match` says, it is known already"}
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys([*_common_codes(operation), *operation.codes]):
        by_status.setdefault(status_of(code), []).append(str(code))
    for status, codes in sorted(by_status.items()):
        lines = [f"- `{code}`: {sentence(code)}" for code in codes]
        responses[str(status)] = {
            "description": "\n".join(lines),
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}
            },
        }
    return responses


def _common_codes(operation: Operation) -> Iterable[str]:
    yield from ("rate_limited", "unavailable")
    if operation.access != "anyone":
        yield IdentityCode.UNAUTHENTICATED
        yield "outcome_unknown"
    if "{" in operation.path or operation.restricted:
        yield "not_found"
    if operation.body is not None:
        yield from ("request_timeout", "malformed_body", "body_too_large")
        yield from ("unsupported_media_type", "body_invalid")
    if operation.key == "required":
        yield "idempotency_key_required"
    if operation.key != "none":
        yield "idempotency_key_invalid"


def _ref(model: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=model.__name__)}


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    """The schemas of all bodies and answers: msgspec's and pydantic's, side by side."""
    types = dict.fromkeys(
        model
        for item in operations
        for model in (item.body, item.answer)
        if model is not None and model is not str
    )
    models = [model for model in types if issubclass(model, pydantic.BaseModel)]
    structs = [model for model in types if not issubclass(model, pydantic.BaseModel)]
    _, by_msgspec = msgspec.json.schema_components(structs, ref_template=_REF)
    _, by_pydantic = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF.replace("{name}", "{model}")
    )
    merged = {**by_msgspec, **by_pydantic.get("$defs", {})}
    for schema in merged.values():
        if "description" in schema:
            # From Python 3.13 on docstrings come without their indentation.
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(merged.items()))


class Documentation:
    """The description for programs, and as a page (Swagger UI, served by ourselves)."""

    def __init__(self, document: dict[str, Any]) -> None:
        files = resources.files("serve_apps.api")
        self._document = json.dumps(document).encode()
        self._page = files.joinpath("docs.html").read_bytes()
        self._script = files.joinpath("docs.js").read_bytes()

    async def document(self, request: Request) -> Response:
        """The OpenAPI document."""
        return _kept(request, self._document, "application/json")

    async def page(self, request: Request) -> Response:
        """The page; Swagger UI writes styles into it, which nothing else of ours may."""
        response = _kept(request, self._page, "text/html")
        response.headers["content-security-policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
            " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        return response

    async def script(self, request: Request) -> Response:
        """The page's script."""
        return _kept(request, self._script, "text/javascript")


def _kept(request: Request, body: bytes, media_type: str) -> Response:
    """What does not change while this version runs; empty for whoever has it already."""
    tag = caching.tag_of(body)
    headers = {name.decode(): value.decode() for name, value in caching.marks(tag, FRESH_S)}
    known = request.headers.get("if-none-match", "").encode() or None
    if caching.is_known(tag, known):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def main() -> None:
    """Write the description to standard output."""
    from serve_apps.api.routes import OPERATIONS  # which needs this module

    json.dump(description(OPERATIONS), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
