"""The API's description agrees with the code, and its page keeps to the policy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pydantic
import pytest

from domain.accounts.codes import Code
from domain.identity.rules import IdentityCode
from serve_apps.api.openapi import description
from serve_apps.api.routes import OPERATIONS
from serve_apps.api.routing import Operation
from serve_apps.problems import SENTENCES, STATUS, sentence, status_of

DOCUMENT = description(OPERATIONS)


def test_the_repository_holds_what_the_code_says() -> None:
    stored = json.loads(Path(__file__).parents[2].joinpath("openapi.json").read_text())
    assert stored == json.loads(json.dumps(DOCUMENT)), (
        "run: python -m serve_apps.api.openapi > openapi.json"
    )


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its references within reach."""
    return {**schema, "components": DOCUMENT["components"]}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda item: item.name)
def test_examples_are_examples(operation: Operation) -> None:
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    success = described["responses"][str(operation.status)]["content"][operation.answer_type]
    jsonschema.validate(success["example"], resolved(success["schema"]))
    msgspec.convert(operation.answer_example, operation.answer)
    if operation.body is None:
        assert "requestBody" not in described
        return
    content = described["requestBody"]["content"]["application/json"]
    jsonschema.validate(content["example"], resolved(content["schema"]))
    if issubclass(operation.body, pydantic.BaseModel):
        operation.body.model_validate(operation.body_example)
    else:
        msgspec.convert(operation.body_example, operation.body)


def test_all_references_lead_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)):
        assert name in schemas
    assert len({item.name for item in OPERATIONS}) == len(OPERATIONS)


def test_each_code_has_a_status_and_a_sentence() -> None:
    assert STATUS.keys() == SENTENCES.keys()
    for code in (*Code, *IdentityCode):
        assert code in STATUS, code
    for operation in OPERATIONS:
        for code_ in operation.codes:
            assert code_ in STATUS, (operation.name, code_)
    assert all(400 <= status < 600 for status in STATUS.values())
    assert all(text.endswith(".") for text in SENTENCES.values())
    assert (status_of("new_code"), sentence("new_code")) == (422, "new_code")


async def test_the_page_and_what_it_loads(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert not re.search(r"<script(?! src=)|\son\w+=|https?://", page.text)
    script = await client.get("/api/docs/init.js")
    assert script.headers["content-type"].startswith("text/javascript")
    answer = await client.get("/api/openapi.json")
    assert answer.json() == json.loads(json.dumps(DOCUMENT))
