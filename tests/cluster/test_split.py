"""The split between two versions: a real HAProxy with Serve's configuration, as it is amended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from cluster import runtime, split
from cluster.chaos.running import free_port
from cluster.processes import wait_until
from cluster.split import Share

WRITE = """
import json, sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

given = json.loads(sys.argv[1])
folder = given["folder"]
config = HAProxyConfig(
    http_options=HTTPOptions(host="127.0.0.1", port=given["port"]),
    socket_path=folder + "/admin.sock", server_state_base=folder,
    server_state_file=folder + "/state", metrics_port=given["metrics"],
    stats_port=given["stats"], metrics_enabled=False,
)
def backend(app, prefix, ports):
    servers = [ServerConfig(f"{app}-{port}", "127.0.0.1", port) for port in ports]
    last = ServerConfig("SERVE_PROXY_ACTOR-fallback", "127.0.0.1", given["last"])
    return BackendConfig(name="http-" + app, path_prefix=prefix, app_name=app, servers=servers,
                         fallback_server=last)
for name, with_canary in (("alone.cfg", False), ("both.cfg", True)):
    backends = {"http-kontor": backend("kontor", "/", given["stable"])}
    if with_canary:
        backends["http-kontor-canary"] = backend("kontor-canary", "/-/canary", given["canary"])
    api = HAProxyApi(cfg=config, backend_configs=backends, config_file_path=folder + "/" + name)
    api._generate_config_file_internal()
"""


SERVE = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

name, port, seen = sys.argv[1], int(sys.argv[2]), []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", "0")))
        body = json.dumps(seen) if self.path == "/-/seen" else f"{name} {self.path}"
        seen.append([self.command, self.path])
        if self.path == "/slow":
            time.sleep(0.1)
        if self.path.startswith("/crash") and name == "canary":
            os.kill(os.getpid(), 9)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Version:
    """A server that says which version it is. The canary's ends itself when it gets ``/crash``."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [sys.executable, "-I", "-S", "-c", SERVE, self.name, str(self.port)]
        self.process = subprocess.Popen(words)
        assert wait_until(lambda: _answers(self.url), timeout_s=60, pause_s=0.02)

    def seen(self) -> list[list[str]]:
        """Method and path of all requests so far."""
        found: list[list[str]] = httpx.get(self.url + "/-/seen").json()
        return found

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


class Front:
    """HAProxy before two versions, started as Serve does: through the launcher."""

    at_first: Share | None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stable, self.canary = Version("stable"), Version("canary")
        self.url = f"http://127.0.0.1:{free_port()}"
        self._generate()
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(split.LAUNCHER_VARIABLE, raising=False)
            split.put_before_haproxy(folder, 0)
            launcher = os.environ[split.LAUNCHER_VARIABLE]
        self.alone = (folder / "alone.cfg").read_bytes()
        self.process = subprocess.Popen(
            [launcher, "-db", "-f", str(folder / "both.cfg")],
            stderr=(folder / "stderr").open("wb"),
        )
        assert wait_until(lambda: _answers(self.url), timeout_s=60, pause_s=0.02), self.said()

    def said(self) -> str:
        """What HAProxy complained about."""
        return (self.folder / "stderr").read_text()

    def _generate(self) -> None:
        given = {
            "folder": str(self.folder), "port": int(self.url.rpartition(":")[2]),
            "metrics": free_port(), "stats": free_port(), "last": free_port(),
            "stable": [self.stable.port], "canary": [self.canary.port],
        }  # fmt: skip
        subprocess.run(
            [sys.executable, "-c", WRITE, json.dumps(given)],
            env={**os.environ, **runtime.FLAGS}, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip

    def tell(self, command: str) -> str:
        """Say something on HAProxy's socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.folder / "admin.sock"))
            client.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def share(self, weight: int, salt: str = "a") -> None:
        """Give the canary a share."""
        self.tell(split.map_commands(self.map, Share(weight, salt)))

    @property
    def map(self) -> str:
        """Where the share is kept."""
        return str(self.folder / split.MAP)

    def close(self) -> None:
        """End everything."""
        self.process.kill()
        self.process.wait()
        self.stable.end()
        self.canary.end()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One HAProxy for all tests; each sets the share that it wants."""
    front = Front(tmp_path_factory.mktemp("split"))
    front.at_first = split.read_map(front.tell(f"show map {front.map}"))
    yield front
    front.close()


PEOPLE = [f"session-{number}" for number in range(400)]


def versions(front: Front) -> dict[str, str]:
    """Which version answers whom."""
    with httpx.Client(base_url=front.url) as client:
        found = {}
        for person in PEOPLE:
            answer = client.get("/", headers={"cookie": f"a=b; kontor_session={person}"})
            found[person] = answer.text.partition(" ")[0]
        return found


def test_without_a_share_nobody_meets_the_canary(front: Front) -> None:
    assert front.at_first == Share(0, "none")
    front.share(0)
    assert set(versions(front).values()) == {"stable"}


def test_shares_are_kept_by_person_and_grow_without_moving_anybody_back(front: Front) -> None:
    front.share(10)
    ten = versions(front)
    counts = Counter(ten.values())
    assert 0.05 < counts["canary"] / len(PEOPLE) < 0.16
    assert versions(front) == ten
    front.share(50)
    half = versions(front)
    assert 0.42 < Counter(half.values())["canary"] / len(PEOPLE) < 0.58
    assert {p for p in PEOPLE if ten[p] == "canary"} <= {p for p in PEOPLE if half[p] == "canary"}
    front.share(100)
    assert set(versions(front).values()) == {"canary"}
    front.share(0)
    assert set(versions(front).values()) == {"stable"}


def test_another_canary_meets_other_people(front: Front) -> None:
    front.share(30, "first")
    first = versions(front)
    front.share(30, "second")
    assert versions(front) != first


@pytest.mark.parametrize(
    "header", ["authorization", "x-mbx-apikey", "cookie: __Host-kontor_session="]
)
def test_tokens_keys_and_secure_cookies_are_told_apart(front: Front, header: str) -> None:
    front.share(50)
    name, _, start = header.partition(": ")
    with httpx.Client(base_url=front.url) as client:
        found = [client.get("/", headers={name: start + person}).text for person in PEOPLE]
        again = [client.get("/", headers={name: start + person}).text for person in PEOPLE]
    assert 0.42 < sum(text.startswith("canary") for text in found) / len(PEOPLE) < 0.58
    assert found == again


def test_whoever_is_not_logged_in_is_known_by_address(front: Front) -> None:
    front.share(50)
    assert len({httpx.get(front.url).text for _ in range(10)}) == 1


def test_the_path_is_not_changed_and_serves_own_path_leads_nowhere_special(front: Front) -> None:
    front.share(100)
    assert httpx.get(front.url + "/api/x?y=1").text == "canary /api/x?y=1"
    front.share(0)
    assert httpx.get(front.url + "/-/canary/api").text == "stable /-/canary/api"


def test_a_dead_canarys_requests_go_to_the_stable_version(front: Front) -> None:
    """Also those that it had taken, unless they might then be carried out twice."""
    front.share(100)
    assert httpx.get(front.url + "/crash").text == "stable /crash"
    assert {httpx.get(front.url).text for _ in range(5)} == {"stable /"}
    front.canary.start()
    assert _canary_again(front)
    keyed = {"idempotency-key": "k"}
    assert httpx.post(front.url + "/crash/k", headers=keyed, json=[1]).text == "stable /crash/k"
    front.canary.start()
    assert _canary_again(front)
    with suppress(httpx.RemoteProtocolError):
        assert httpx.post(front.url + "/crash/no", json=[1]).status_code >= 500
    assert ["POST", "/crash/no"] not in front.stable.seen()
    front.canary.start()
    assert _canary_again(front)


async def test_requests_survive_all_the_connections_that_were_kept_to_a_dead_canary(
    front: Front,
) -> None:
    """HAProxy tries one kept connection after the other until it finds out that nobody is there."""
    front.share(100)
    limits = httpx.Limits(max_connections=30, max_keepalive_connections=30)
    for _ in range(2):
        async with httpx.AsyncClient(base_url=front.url, timeout=20, limits=limits) as client:
            await asyncio.gather(*(client.get("/slow") for _ in range(30)))
            front.process.send_signal(signal.SIGSTOP)  # so that it hears of all at once
            front.canary.end()
            waiting = asyncio.gather(
                *(
                    client.post("/pay", headers={"idempotency-key": str(number)}, json=[1])
                    for number in range(30)
                ),
                return_exceptions=True,
            )
            await asyncio.sleep(0.1)
            front.process.send_signal(signal.SIGCONT)
            found = [getattr(answer, "text", answer) for answer in await waiting]
        assert found == ["stable /pay"] * 30
        front.canary.start()
        assert _canary_again(front)


def _canary_again(front: Front) -> bool:
    return wait_until(lambda: httpx.get(front.url).text == "canary /", timeout_s=30, pause_s=0.05)


def test_without_a_canary_the_configuration_is_left_as_it_is(front: Front) -> None:
    text = front.alone.decode()
    assert split.rewrite(text, "/nowhere") == text
    amended = (front.folder / "both.cfg").read_text()
    assert split.rewrite(amended, front.map) == amended, "what is amended already is left, too"


def test_a_proxy_in_front_tells_who_the_client_is(front: Front) -> None:
    text = (front.folder / "both.cfg").read_text()
    assert "x-forwarded-for" not in text
    fresh = text.replace("    http-request set-var(txn.canary_who) src", "    MARK").replace(
        "    MARK", "    use_backend http-kontor-canary if is_http-kontor-canary", 1
    )
    assert "req.hdr(x-forwarded-for,-2)" in split.rewrite(fresh, "another", 2)
