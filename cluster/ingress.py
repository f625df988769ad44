"""The Serve application: replicas of the ASGI application behind HAProxy."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Receive, Scope, Send

    from serve_apps.services import AppConfig

APPLICATION: Final = "kontor"
# Each open websocket counts as a request under way.
_REQUESTS_MAX: Final = 5_000
_UNWATCHED: Final = (b"x-request-disconnect-disabled", b"?1")
_LOGGING: Final = {"enable_access_log": False, "log_level": "WARNING"}


STREAMS: Final = ("/ws", "/stream")
EXTENSION: Final = "kontor.protocol"
"""As in ``serve_apps.exchange.streams.wire``, which would bring all of the application along."""


class Unwatched:
    """Tells Serve not to watch whether the client goes away while its request is carried out.

    A payment goes on without whoever asked for it, and two tasks and a queue for each request are
    saved. Websockets of the trading API watch themselves: so a client that sends faster than it is
    answered is held up by its own connection, and not queued here without end. They also get the
    server's protocol object, to send the same bytes to many (see
    ``serve_apps.exchange.streams.wire``). All other websockets are watched as ever.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"].append(_UNWATCHED)
        elif scope["type"] == "websocket" and scope["path"].startswith(STREAMS):
            scope["headers"].append(_UNWATCHED)
            scope["extensions"][EXTENSION] = getattr(send, "__self__", None)
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Called by each replica's server; see ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``."""
    from starlette.middleware import Middleware

    return [Middleware(Unwatched)]


def _builder(config: AppConfig) -> Callable[[], Any]:
    def build_application() -> Any:
        from serve_apps.application import build

        application = build(dataclasses.replace(config, name=f"serve-{os.getpid()}"))
        # What is loaded by now stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        return application

    return build_application


def prepare(*, host: str, port: int, every_node: bool) -> None:
    """Start Serve itself: its controller, and HAProxy on the nodes."""
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.EveryNode if every_node else ProxyLocation.HeadOnly,
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=75),
        logging_config=_LOGGING,
    )


def found() -> bool:
    """Whether the cluster serves pages already: Serve outlives the process that started it."""
    import ray

    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return False
    return True


def run(config: AppConfig, *, replicas: int) -> None:
    """Start the application's replicas and wait until all answer."""
    from ray import serve

    ingress = serve.deployment(
        name="Ingress",
        num_replicas=replicas,
        max_ongoing_requests=_REQUESTS_MAX,
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
        ray_actor_options={"num_cpus": 0},
        logging_config=_LOGGING,
    )(serve.ingress(_builder(config))())
    serve.run(ingress.bind(), name=APPLICATION, route_prefix="/", blocking=False)


def stop(*, patience_s: float) -> None:
    """Take the application and Serve down; what has not ended by then is left to the caller."""
    from ray import serve

    # Serve waits 30 s for a controller that hangs: it may do so alone.
    waiting = threading.Thread(target=serve.shutdown, daemon=True)
    waiting.start()
    waiting.join(patience_s)
