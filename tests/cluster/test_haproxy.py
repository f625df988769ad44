"""The HAProxy that Serve starts tells replicas the address of its client, as nobody else can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from cluster import runtime
from cluster.chaos.running import free_port
from cluster.processes import wait_until
from serve_apps.gateway.front import via_header

NAME = via_header(b"k" * 32)

WRITE = """
import sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

folder, front, back = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = HAProxyConfig(
    http_options=HTTPOptions(host="127.0.0.1", port=front),
    socket_path=folder + "/admin.sock", server_state_base=folder,
    server_state_file=folder + "/state", metrics_port=int(sys.argv[4]),
    stats_port=int(sys.argv[5]), metrics_enabled=False,
)
backend = BackendConfig(
    name="kontor", path_prefix="/", app_name="kontor",
    servers=[ServerConfig(name="one", host="127.0.0.1", port=back)],
)
api = HAProxyApi(cfg=config, backend_configs={"kontor": backend}, config_file_path=folder + "/cfg")
api._generate_config_file_internal()
from ray.serve._private.haproxy import get_haproxy_binary
print(get_haproxy_binary())
"""


class _Echo(BaseHTTPRequestHandler):
    """Answers with the head of the request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An HAProxy with Serve's own configuration, made with our flags, before an echo."""
    folder = tmp_path_factory.mktemp("haproxy")
    echo = HTTPServer(("127.0.0.1", 0), _Echo)
    Thread(target=echo.serve_forever, daemon=True).start()
    port = free_port()
    flags = {**runtime.FLAGS, **runtime.address_header(NAME)}
    ports = [str(number) for number in (port, echo.server_port, free_port(), free_port())]
    written = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), *ports],
        env={**os.environ, **flags}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    binary = written.stdout.split()[-1]
    with subprocess.Popen(
        [binary, "-db", "-f", str(folder / "cfg")], stderr=subprocess.DEVNULL
    ) as haproxy:
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/"), timeout_s=60, pause_s=0.05)
            yield f"http://127.0.0.1:{port}/"
        finally:
            haproxy.kill()
            echo.shutdown()
            echo.server_close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def test_the_address_is_told_and_what_the_client_says_stays_apart(url: str) -> None:
    sent = {"x-forwarded-for": "1.1.1.1", NAME: "2.2.2.2"}
    seen = httpx.get(url, headers=sent).text.lower().splitlines()
    told = [line.partition(": ")[2] for line in seen if line.startswith(NAME)]
    assert told == ["2.2.2.2", "127.0.0.1"]
    assert [line for line in seen if line.startswith("x-forwarded-for")] == [
        "x-forwarded-for: 1.1.1.1"
    ]


def test_each_request_of_a_connection_is_told(url: str) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            assert f"{NAME}: 127.0.0.1" in client.get(url).text.lower()


def test_an_operators_own_value_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (variable,) = runtime.address_header(NAME)
    monkeypatch.setenv(variable, "none")
    runtime.apply(runtime.address_header(NAME))
    assert os.environ[variable] == "none"
