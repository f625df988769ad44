"""Ray: the flags it must be given before it is imported, starting it, reaching one that runs.

Why each flag is needed is said beside it. A flag that the operator has set in the environment is
left alone. Nothing here imports Ray before ``environment`` has been applied.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from actors.durable.reserve import SPARES
from cluster.errors import Exit, StartError

NAMESPACE: Final = "kontor"
HEAD_PORT: Final = 6379
_OBJECT_STORE_BYTES: Final = 256 * 1024 * 1024

FLAGS: Final[Mapping[str, str]] = {
    # Serve's fast ingress: five times the requests of the default proxy.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A line of HAProxy's for each request, parsed in Python for Serve's own metrics: a tenth of
    # the cost of a request. HAProxy's exporter and our access log tell the same.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # What stands before each request in a replica: see ``cluster.ingress``.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "cluster.ingress.middlewares",
    # A reload of HAProxy must not cut live websockets after two minutes.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
    # Serve looks after its proxy every ten seconds and acts at the third time; until then nobody
    # is served. So a killed proxy is back after five seconds, not thirty to sixty.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    # Callers of a killed actor are served again after 0.04 to 0.5 s instead of 2 s.
    "RAY_timeout_ms_task_wait_for_death_info": "20",
    "RAY_core_worker_internal_heartbeat_ms": "50",
    # Workers that wait for tasks: there are none here, only actors.
    "RAY_enable_worker_prestart": "0",
    # So many processes in reserve stay on a node (``actors.durable.reserve``); Ray ends further
    # ones a second later. By itself it would keep as many as there are processors.
    "RAY_num_workers_soft_limit": str(SPARES),
    # Ray would run workers at a lower priority than everything else on the machine; here the
    # workers are the platform.
    "RAY_worker_niceness": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Serve's own account of its progress stays in its log files.
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's own uv hook would start workers through `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

CLUSTER_FLAGS: Final[Mapping[str, str]] = {
    # A frozen node is given up after about four seconds, not sixty. Only where there are several
    # nodes: a single busy machine must not give itself up.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    # Time for a load balancer in front to notice that a replica goes; a stop waits for it.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
}


def environment(
    folder: Path,
    *,
    token: Path | None,
    metrics_port: int,
    stats_port: int,
    fallback_ports: tuple[int, int],
    replica_ports: range,
    via_header: str,
) -> dict[str, str]:
    """All variables for one platform whose sockets lie in ``folder``.

    Without a ``token`` Ray's own variables say what to show to a cluster that others started.
    """
    # Ray puts a folder named by the node's id (56 characters) between the folder and the file,
    # and HAProxy takes at most 97 characters for a socket: nothing may be added here.
    return {
        **FLAGS,
        # Nothing is in front of the platform that would have to notice it leaving.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        **({} if token is None else {"RAY_AUTH_TOKEN_PATH": str(token)}),
        **control_store(folder / "control"),
        **address_header(via_header),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_ports[0]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_ports[1]),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(replica_ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(replica_ports.stop - 1),
    }


def address_header(name: str) -> dict[str, str]:
    """Variables by which HAProxy tells replicas the address of its client in a header ``name``.

    Serve has no setting for it. But it copies this one into HAProxy's ``defaults`` section as it
    is, and a second line of that section goes along.
    """
    return {"RAY_SERVE_HAPROXY_RETRY_ON": f"conn-failure\n    option forwardfor header {name}"}


def control_store(folder: Path) -> dict[str, str]:
    """Variables by which Ray's control store keeps its state in ``folder``."""
    return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(folder)}


def keep_control_store(folder: Path) -> None:
    """Let the control store of a head that is about to start keep its state in ``folder``.

    What an earlier head left there is removed: its nodes are gone. Nothing happens when the
    operator has chosen a store (``RAY_gcs_storage``, or a Redis in ``RAY_REDIS_ADDRESS``).
    """
    if "RAY_gcs_storage" not in os.environ and "RAY_REDIS_ADDRESS" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        apply(control_store(folder))


def apply(variables: Mapping[str, str]) -> None:
    """Set variables that the operator has not set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def write_token(path: Path) -> None:
    """Make the token that whoever speaks to this Ray must show, if there is none yet."""
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))


def start(
    folder: Path,
    *,
    cpus: int | None,
    dashboard_host: str,
    dashboard_port: int,
    metrics_port: int,
) -> dict[str, Any]:
    """Start Ray on this machine as a child of this process; returns its addresses.

    Raises ``StartError``.
    """
    import ray

    _be_quiet()
    try:
        context: Any = ray.init(
            namespace=NAMESPACE,
            num_cpus=cpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=True,
            dashboard_host=dashboard_host,
            dashboard_port=dashboard_port,
            _metrics_export_port=metrics_port,
            _temp_dir=str(folder / "ray"),
            **_options(),
        )
    except Exception as error:
        # Ray raises bare exceptions too, as when its dashboard does not start.
        reason = str(error).strip().partition("\n")[0]
        raise StartError(f"Ray does not start: {reason}", Exit.RAY) from None
    return dict(context.address_info)


def connect(address: str) -> dict[str, Any]:
    """Join the Ray cluster at ``address`` as a driver; raises ``StartError``."""
    import ray

    _be_quiet()
    try:
        context: Any = ray.init(address=address, namespace=NAMESPACE, **_options())
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StartError(f"Ray at {address} is not available: {reason}", Exit.RAY) from None
    return dict(context.address_info)


def node_command(
    join: str | None, *, dashboard_host: str, dashboard_port: int, metrics_port: int
) -> list[str]:
    """The command that makes this machine a node of a cluster: its head, or one that joins."""
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--disable-usage-stats", f"--metrics-export-port={metrics_port}"]
    if join is not None:
        return [*command, f"--address={join}", "--block"]
    dashboard = [f"--dashboard-host={dashboard_host}", f"--dashboard-port={dashboard_port}"]
    return [*command, "--head", f"--port={HEAD_PORT}", *dashboard]


@contextmanager
def silence(log: Path) -> Iterator[None]:
    """Send this process's output to ``log``: Ray tells, unasked, of what a shutdown cuts off."""
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(1), os.dup(2)]
    _flush(streams)
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        _flush(streams)
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush(streams: tuple[TextIO, ...]) -> None:
    for stream in streams:
        stream.flush()


def _options() -> dict[str, Any]:
    return {
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "runtime_env": {"worker_process_setup_hook": "cluster.worker.prepare"},
    }


def _be_quiet() -> None:
    """Ray speaks of its own progress; ours is told by the command line."""
    warnings.filterwarnings("ignore", module="ray")
    for name in ("ray", "ray.serve", "ray._private.worker"):
        logging.getLogger(name).setLevel(logging.WARNING)
