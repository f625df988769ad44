"""The examples of the README are run as they stand there, against a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from cluster.demo import PEOPLE
from domain.trading.commands import InstrumentReply, ListInstrument
from domain.trading.rules import About, InstrumentType, Rules
from serve_apps.application import Application
from tests.serve_apps.listening import PromptServer

ROOT = Path(__file__).resolve().parents[2]
README_URL = "http://localhost:8080"

CURL = f"""#!{sys.executable}
# What the examples need of curl, for a machine that has none.
import sys, urllib.error, urllib.parse, urllib.request
headers, data, urls, arguments = {{}}, [], [], iter(sys.argv[1:])
for argument in arguments:
    if argument == "-H":
        name, _, value = next(arguments).partition(": ")
        headers[name] = value
    elif argument == "-d":
        data.append(next(arguments))
    elif argument != "-s":
        urls.append(argument)
body = "&".join(data).encode() if data else None
try:
    answer = urllib.request.urlopen(urllib.request.Request(urls[0], body, headers))
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(answer.read().decode())
"""


@pytest.fixture
async def url(app: Application) -> AsyncIterator[str]:
    """Where the application listens."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = PromptServer(uvicorn.Config(app, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve([listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await task
    listening.close()


def examples() -> str:
    """The README's shell blocks that speak to the API, as one script."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "\necho\n".join(block for block in blocks if "$url" in block)


async def run(script: str, folder: Path) -> list[Any]:
    """Run a script; what it prints, line by line."""
    path = os.environ["PATH"]
    if shutil.which("curl") is None:
        (folder / "curl").write_text(CURL, encoding="utf-8")
        (folder / "curl").chmod(0o755)
        path = f"{folder}{os.pathsep}{path}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": path, "NO_PROXY": "*", "no_proxy": "*"},
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines() if line]


async def test_the_examples_do_what_they_say(
    app: Application, url: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    rules = Rules("BTC", "USD", 10**6, 10**3, price_max=10**8, quantity_max=10**8)
    about = About(InstrumentType.CRYPTO, "Bitcoin")
    listed = await app.services.books.call(
        ListInstrument(bytes(16), b"", rules.symbol, rules, about)
    )
    assert isinstance(listed, InstrumentReply)
    ben = PEOPLE[1]
    body = {"email": ben.email, "name": ben.name, "password": ben.password}
    assert (await client.post("/api/signup/", json=body)).status_code == 201
    script = examples()
    assert README_URL in script
    profile, own, paid, history, depth = await run(script.replace(README_URL, url), tmp_path)

    assert [account["currency"] for account in profile["accounts"]] == ["USD", "CNY", "EUR"]
    assert profile["accounts"][0]["balance"] == "100.00"
    assert (own["status"], own["fee"], own["credited_currency"]) == ("completed", "0.00", "EUR")
    assert (paid["status"], paid["amount"], paid["reference"]) == ("completed", "12.50", "Rent")
    assert [row["id"] for row in history["transactions"]] == [paid["id"]]

    assert (depth["bids"], depth["asks"]) == ([], [])

    again = next(block for block in script.split("\necho\n") if "my-first" in block)
    repeated = script.replace(again, again + "\necho\n" + again).replace("ann@", "eve@")
    _, first, second, *_ = await run(repeated.replace(README_URL, url), tmp_path)
    assert first == second
