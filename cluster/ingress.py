"""The Serve application: replicas of the ASGI application behind HAProxy."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from serve_apps.application import AppConfig

APPLICATION: Final = "kontor"
# Each open websocket counts as a request under way.
_REQUESTS_MAX: Final = 5_000


def _builder(config: AppConfig) -> Callable[[], Any]:
    def build_application() -> Any:
        from serve_apps.application import build

        return build(dataclasses.replace(config, name=f"serve-{os.getpid()}"))

    return build_application


def run(config: AppConfig, *, host: str, port: int, replicas: int, every_node: bool) -> None:
    """Start Serve and wait until all replicas answer."""
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    serve.start(
        proxy_location=ProxyLocation.EveryNode if every_node else ProxyLocation.HeadOnly,
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=75),
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    ingress = serve.deployment(
        name="Ingress",
        num_replicas=replicas,
        max_ongoing_requests=_REQUESTS_MAX,
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
        ray_actor_options={"num_cpus": 0},
    )(serve.ingress(_builder(config))())
    serve.run(ingress.bind(), name=APPLICATION, route_prefix="/", blocking=False)


def stop() -> None:
    """Take the application and Serve down."""
    from ray import serve

    serve.shutdown()  # type: ignore[no-untyped-call]
