"""The Serve application: replicas of the ASGI application behind HAProxy."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from cluster.split import CANARY, PREFIX, STABLE

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cluster.release import Recipe
    from serve_apps.services import AppConfig

APPLICATION: Final = STABLE
BESIDE_VARIABLE: Final = "KONTOR_BESIDE"
_STARTS_MAX: Final = 3
# Each open websocket counts as a request under way.
_REQUESTS_MAX: Final = 5_000
_UNWATCHED: Final = (b"x-request-disconnect-disabled", b"?1")
_LOGGING: Final = {"enable_access_log": False, "log_level": "WARNING"}


WEBSOCKETS: Final = ("/ws/", "/stream/", "/ws-api/")
"""Those of the trading API: what begins so, with a slash at its end."""
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
        elif scope["type"] == "websocket" and f"{scope['path']}/".startswith(WEBSOCKETS):
            scope["headers"].append(_UNWATCHED)
            scope["extensions"][EXTENSION] = getattr(send, "__self__", None)
        await self._app(scope, receive, send)


class Readiness:
    """Has ``/readyz`` say that the replica drains as soon as Serve lets it go.

    Serve says so on its own health check, by which HAProxy takes the replica out. The application
    hears of it only when the last request has been answered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/readyz":
            status, said = await self._health(scope, receive)
            if status != 200:
                body = b'{"status":"%s"}' % said.strip(b'"').lower()
                headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 503, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self._app(scope, receive, send)

    async def _health(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Status and body of Serve's own health check."""
        status, body = 0, b""

        async def keep(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")

        await self._app({**scope, "path": "/-/healthz"}, receive, keep)
        return status, body


class Beside:
    """Lets the canary answer as if it were the only one.

    Serve gives it a path of its own and refuses requests to any other; HAProxy sends it requests
    as they are. So the path is put before them here, and taken away again by ``Itself``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not scope["path"].startswith("/-/"):
            scope["path"] = PREFIX + scope["path"]
        await self._app(scope, receive, send)


class Itself:
    """The application without the path that Serve has put it under: see ``Beside``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope:
            scope["path"] = scope["path"].removeprefix(PREFIX)
            scope["root_path"] = ""
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Called by each replica's server; see ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``."""
    from starlette.middleware import Middleware

    beside = [Middleware(Beside)] if os.environ.get(BESIDE_VARIABLE) else []
    return [*beside, Middleware(Readiness), Middleware(Unwatched)]  # the first is the innermost


def _builder(config: AppConfig) -> Callable[[], Any]:
    def build_application() -> Any:
        from cluster.ingress import settled
        from serve_apps.application import build

        return settled(build(dataclasses.replace(config, name=f"serve-{os.getpid()}")))

    return build_application


def _release_builder(recipe: Recipe) -> Callable[[], Any]:
    """Builds by the code that the replica finds, which need not be ours."""

    def build_release() -> Any:
        from cluster.release import application

        return application(recipe)

    return build_release


def settled(application: Any) -> Any:
    """What is loaded by now stays: the collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    return application


def prepare(*, host: str, port: int, keep_alive_s: int, every_node: bool) -> None:
    """Start Serve itself: its controller, and HAProxy on the nodes."""
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(
        proxy_location=ProxyLocation.EveryNode if every_node else ProxyLocation.HeadOnly,
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=keep_alive_s),
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
    _run(_builder(config), replicas, APPLICATION, "/")


def run_release(recipe: Recipe, *, replicas: int, canary: bool) -> None:
    """Start replicas of another version, beside the stable ones or in their place.

    Waits until all answer; raises ``RuntimeError`` when they do not start. Those that run are left
    alone where only their number changes.
    """
    variables = {"PYTHONPATH": recipe["path"]} if recipe["path"] else {}
    if canary:
        variables[BESIDE_VARIABLE] = "1"
    name, prefix = (CANARY, PREFIX) if canary else (APPLICATION, "/")
    version = f"release-{recipe['release']}"
    try:
        _run(_release_builder(recipe), replicas, name, prefix, variables, version)
    except RuntimeError as error:
        raise RuntimeError(_said(name) or str(error)) from None


def _run(
    builder: Callable[[], Any],
    replicas: int,
    name: str,
    prefix: str,
    variables: Mapping[str, str] | None = None,
    version: str | None = None,
) -> None:
    from ray import serve

    options: dict[str, Any] = {"num_cpus": 0}
    if variables:
        options["runtime_env"] = {"env_vars": dict(variables)}
    # A canary that does not start is soon known; the stable version is tried as long as Serve does.
    limited: Any = {"max_constructor_retry_count": _STARTS_MAX} if name == CANARY else {}
    ingress: Any = serve.deployment(
        name="Ingress",
        num_replicas=replicas,
        max_ongoing_requests=_REQUESTS_MAX,
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
        ray_actor_options=options,
        logging_config=_LOGGING,
        **limited,
    )(serve.ingress(builder)())
    if version is not None:
        ingress = ingress.options(version=version, _internal=True)
    serve.run(ingress.bind(), name=name, route_prefix=prefix, blocking=False)


def _said(name: str) -> str:
    """What Serve says of the deployment of an application that does not start."""
    from ray import serve

    found = serve.status().applications.get(name)
    deployment = None if found is None else found.deployments.get("Ingress")
    return "" if deployment is None else deployment.message


def condition(name: str) -> str:
    """What Serve says of an application, such as ``RUNNING``; empty if it knows no such one."""
    from ray import serve

    found = serve.status().applications.get(name)
    return "" if found is None else str(found.status.value)


def end(name: str) -> None:
    """End an application's replicas when they have answered what they are answering."""
    from ray import serve

    serve.delete(name)


def stop(*, patience_s: float) -> None:
    """Take the application and Serve down; what has not ended by then is left to the caller."""
    from ray import serve

    # Serve waits 30 s for a controller that hangs: it may do so alone.
    waiting = threading.Thread(target=serve.shutdown, daemon=True)
    waiting.start()
    waiting.join(patience_s)
