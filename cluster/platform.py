"""One platform: brought up in order, watched over while it runs, taken down without a trace.

The only place that knows every part. All servers are started from the main thread, because they
end with the thread that started them (see ``cluster.child``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from cluster import addresses, assets, controlstore, early, logs, runtime, split
from cluster.addresses import Addresses
from cluster.datafolder import DataFolder
from cluster.embedded import EmbeddedPostgres, EmbeddedRedis
from cluster.errors import Exit, StartError
from cluster.kinds import Kind, kinds
from cluster.mailserver import HOST as MAIL_HOST
from cluster.mailserver import DevelopmentMail
from cluster.ports import Claims
from cluster.processes import MARKER, end_all, instance_of, leftovers, runtime_folder, runtime_path
from cluster.servers import bring_up_to_date, check_redis, embedded_postgres, embedded_redis
from cluster.settings import Settings
from persistence.database import DatabaseUnavailable, Pool, open_pool
from serve_apps.gateway.front import via_header

if TYPE_CHECKING:
    from actors.durable.reserve import Reserve
    from actors.durable.supervisor import Supervisor
    from actors.keeping import Keeper
    from cluster.canary import CanaryKeeper
    from serve_apps.services import AppConfig

log = structlog.get_logger("kontor.platform")

DASHBOARD_PORT: Final = 8265
METRICS_PORT: Final = 9102
HAPROXY_METRICS_PORT: Final = 9101
HAPROXY_STATS_PORT: Final = 8404
MAIL_PORT: Final = 1025
FALLBACK_PORTS: Final = (8500, 9500)
_WATCH_S: Final = 0.05
_AGAIN_S: Final = 1.0
_PARTITIONS_START_S: Final = 60.0
_PARTITION_STOP_S: Final = 5.0

Report = Callable[[str, float], None]


class Platform:
    """A platform of ``settings``. ``report(step, seconds)`` is called after each step."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.settings = settings
        self.data = DataFolder(settings.data_dir)
        self.instance = instance_of(self.data.path)
        self.folder = runtime_path(self.instance)
        self._ports = Claims()
        self.addresses: Addresses | None = None
        self.config: AppConfig | None = None
        self._report = report
        self.postgres: EmbeddedPostgres | None = None
        self._redis: EmbeddedRedis | None = None
        self._mail: DevelopmentMail | None = None
        self._control: controlstore.ControlStore | None = None
        self._partitions = False
        self.claimed = False
        self._ray = False
        self._serving = False

    # -- start ----------------------------------------------------------------------------

    def start(self) -> None:
        """Bring everything up; raises ``StartError``, after which ``stop`` must be called."""
        settings = self.settings
        self.data.claim()
        self.claimed = True
        logs.configure(self.data.logs, settings.log_level, console=True)
        self._end_remains()
        if settings.ray_address is None:
            self._ports.demand(settings.port, settings.host, "KONTOR_PORT")
        os.environ[MARKER] = self.instance
        os.environ[logs.FOLDER_VARIABLE] = str(self.data.logs)
        os.environ[logs.LEVEL_VARIABLE] = settings.log_level
        self._set_variables()
        with early.imports():
            database_url = self._start_postgres()
            redis_url = self._start_redis()
            with self._step("Database schema"):
                bring_up_to_date(database_url)
        with self._step("Ray"):
            self._start_ray()
        if settings.ray_address is not None and not self._found_serving():
            self._ports.demand(settings.port, settings.host, "KONTOR_PORT")
        assert self.addresses is not None
        config = app_config(settings, self.data, database_url, redis_url, self.addresses.dashboard)
        self.config = replace(config, **self._start_mail())
        with ThreadPoolExecutor(1) as beside:
            front = beside.submit(self._prepare_ingress)
            with self._step("Partitions"):
                asyncio.run(self._start_partitions())
            with self._step("Ingress"):
                front.result()
        with self._step("Pages and API"):
            self._start_ingress(self.config)
        assert self.addresses is not None
        found = msgspec.structs.replace(self.addresses, mail_port=self.config.mail_port)
        found.write(self.data.path)

    def _end_remains(self) -> None:
        """End what an earlier platform of this folder left behind when it was killed."""
        remains = leftovers(self.instance)
        if remains:
            with self._step(f"Ended {len(remains)} processes of a killed platform"):
                end_all(remains)
                end_all(leftovers(self.instance))
        shutil.rmtree(self.folder, ignore_errors=True)
        runtime_folder(self.instance)

    def _start_postgres(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        with self._step("Postgres"):
            self.postgres = embedded_postgres(self.data)
            self.postgres.start()
        return self.postgres.url()

    def _start_redis(self) -> str:
        if self.settings.redis_url is not None:
            redis_url = self.settings.redis_url.get_secret_value()
            with self._step("Redis"):
                check_redis(redis_url)
            return redis_url
        with self._step("Redis"):
            self._redis = embedded_redis(self.data)
            self._redis.start()
        return self._redis.url()

    def _start_mail(self) -> dict[str, Any]:
        """Catch mails where none is really sent; what replicas have to know of it."""
        if not self.settings.catches_mail:
            return {}
        port = self._ports.chosen_or_free(
            self.settings.mail_port, MAIL_PORT, MAIL_HOST, "MAIL_PORT"
        )
        self._mail = DevelopmentMail(self.data.mail, port)
        self._mail.start()
        return {"mail_dir": str(self.data.mail), "mail_port": port}

    def _set_variables(self) -> None:
        """What Ray and Serve read when they are imported."""
        settings = self.settings
        token = None
        if settings.ray_address is None:
            token = self.data.path / "ray-token"
            runtime.write_token(token)
        variables = runtime.environment(
            self.folder,
            token=token,
            metrics_port=self._ports.choose(HAPROXY_METRICS_PORT),
            stats_port=self._ports.choose(HAPROXY_STATS_PORT),
            fallback_ports=(
                self._ports.choose(FALLBACK_PORTS[0]),
                self._ports.choose(FALLBACK_PORTS[1]),
            ),
            replica_ports=self._ports.block(self.instance),
            via_header=via_header(secret_key(settings, self.data)),
        )
        runtime.apply(variables)
        split.put_before_haproxy(self.folder, settings.forwarded_hops)

    def _start_ray(self) -> None:
        settings = self.settings
        dashboard_port = self._ports.chosen_or_free(
            settings.dashboard_port, DASHBOARD_PORT, settings.dashboard_host, "DASHBOARD_PORT"
        )
        metrics_port = self._ports.chosen_or_free(
            settings.metrics_port, METRICS_PORT, "", "METRICS_PORT"
        )
        self._ray = True
        if settings.ray_address is not None:
            found = runtime.connect(settings.ray_address)
        else:
            found = runtime.start(
                self.folder,
                cpus=settings.ray_cpus,
                dashboard_host=settings.dashboard_host,
                dashboard_port=dashboard_port,
                metrics_port=metrics_port,
            )
        self.addresses = Addresses(
            pid=os.getpid(),
            url=settings.url,
            ray=str(found["gcs_address"]),
            dashboard=f"http://{found['webui_url']}",
            metrics=f"http://localhost:{found['metrics_export_port']}/metrics",
        )
        self._control = controlstore.find(
            self.addresses.ray,
            self.data.logs / "ray-control-store.log",
            fate_sharing=settings.ray_address is None,
        )

    async def _start_partitions(self) -> None:
        """Start the partitions of a database, or of a new one as many as the settings say."""
        import ray

        from persistence.journal import prepare_streams

        self._partitions = True
        pool = await self._open_pool()
        try:
            for kind in self._kinds():
                await prepare_streams(pool, kind.name, kind.partitions)
            supervisors = self._supervisors(pool)
            answering = await asyncio.gather(
                *(supervisor.bring_up(_PARTITIONS_START_S) for supervisor in supervisors)
            )
            for supervisor in supervisors:
                await supervisor.settle()
        except ray.exceptions.RayError as error:
            log.info("partitions_failed", error=str(error))
            answering = [False]
        finally:
            await pool.close()
        if not all(answering):
            raise StartError(
                f"Partitions do not start: the reason is in {self.data.logs}", Exit.RAY
            )

    def _kinds(self) -> list[Kind]:
        assert self.config is not None
        return kinds(self.settings, self.config.database_url, self.config.redis_url)

    def _supervisors(self, pool: Pool, reserve: Reserve | None = None) -> list[Supervisor]:
        """One for each kind; they share what they know of nodes."""
        from actors.durable.hosts import RayHosts
        from actors.durable.supervisor import Supervisor
        from actors.durable.watched import Census

        census = Census()
        return [
            Supervisor(
                pool,
                kind.name,
                RayHosts(kind.recipe, runtime.NAMESPACE),
                census=census,
                reserve=reserve,
            )
            for kind in self._kinds()
        ]

    async def _open_pool(self) -> Pool:
        assert self.config is not None
        return await open_pool(self.config.database_url, name="kontor platform", size_max=4)

    def _found_serving(self) -> bool:
        """Whether the pages of a killed platform are still served by this cluster."""
        from cluster import ingress

        return ingress.found()

    def _prepare_ingress(self) -> None:
        from cluster import ingress

        self._serving = True
        ingress.prepare(
            host=self.settings.host,
            port=self.settings.port,
            keep_alive_s=self.settings.keep_alive_seconds,
            every_node=self.settings.ray_address is not None,
        )

    def _start_ingress(self, config: AppConfig) -> None:
        import ray

        from cluster import canary, ingress

        try:
            if not canary.start_promoted(self.settings, config):
                ingress.run(config, replicas=self.settings.replicas)
        except (RuntimeError, ray.exceptions.RayError) as error:
            log.info("ingress_failed", error=str(error))
            raise StartError(
                f"Pages and API do not start: the reason is in {self.data.logs}", Exit.INGRESS
            ) from None

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        log.info("step", name=name, seconds=round(seconds, 3))
        self._report(name, seconds)

    # -- while it runs --------------------------------------------------------------------

    async def watch(self) -> None:
        """Restart servers that die and supervise all actors, until cancelled."""
        from actors.durable.reserve import Reserve

        reserve = Reserve()
        await asyncio.gather(
            self._watch_servers(),
            self._supervise(reserve),
            self._canary_keeper().run(),
            *(keeper.run() for keeper in self._keepers(reserve)),
        )

    async def _watch_servers(self) -> None:
        """Start servers that died, again and again: a full disk may have room later."""
        died: dict[str, float] = {}
        while True:
            for server in (self.postgres, self._redis, self._control, self._mail):
                if server is None or server.alive():
                    continue
                name = type(server).__name__
                if name not in died:
                    died[name] = time.monotonic()
                    log.error("server_died", server=name)
                try:
                    server.restart()
                except StartError as error:
                    log.error("server_does_not_start", server=name, error=str(error))
                    await asyncio.sleep(_AGAIN_S)
                else:
                    seconds = round(time.monotonic() - died.pop(name), 3)
                    log.warning("server_restarted", server=name, seconds=seconds)
            await asyncio.sleep(_WATCH_S)

    async def _supervise(self, reserve: Reserve) -> None:
        while True:
            try:
                pool = await self._open_pool()
            except DatabaseUnavailable as error:
                log.warning("supervisor_waits", error=str(error))
                await asyncio.sleep(1)
            else:
                supervisors = self._supervisors(pool, reserve)
                await asyncio.gather(*(supervisor.run() for supervisor in supervisors))

    def _canary_keeper(self) -> CanaryKeeper:
        from cluster.canary import CanaryKeeper

        assert self.config is not None
        return CanaryKeeper(self.settings, self.config)

    def _keepers(self, reserve: Reserve | None = None) -> list[Keeper]:
        """One for each actor of which there is to be one."""
        from actors.keeping import Keeper
        from cluster.kept import kept
        from persistence.supervision import note

        assert self.config is not None
        url = self.config.database_url

        async def tell(event: str, what: str) -> None:
            pool = await open_pool(url, name="kontor platform", size_max=1)
            try:
                await note(pool, event, what)
            finally:
                await pool.close()

        return [
            Keeper(name, actor, arguments, runtime.NAMESPACE, tell, reserve)
            for name, actor, arguments in kept(self.settings, self.config)
        ]

    # -- stop -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Take everything down, in the order in which nothing is lost; safe at any point."""
        if not self.claimed:
            return
        addresses.forget(self.data.path)
        if self._ray:
            self._stop_ray()
        if self._mail is not None:
            self._mail.stop()
        if self._redis is not None:
            self._redis.stop()
        if self.postgres is not None:
            self.postgres.stop()
        end_all(leftovers(self.instance))
        shutil.rmtree(self.folder, ignore_errors=True)
        log.info("stopped")
        self._ports.release()
        self.data.release()

    def _stop_ray(self) -> None:
        import ray

        with runtime.silence(self.data.logs / "ray-stop.log"):
            try:
                if self._serving:
                    from cluster import ingress

                    # A cluster of others outlives us: leave no half-ended Serve in it.
                    own = self.settings.ray_address is None
                    ingress.stop(patience_s=8 if own else 35)
                if self._partitions:
                    asyncio.run(self._stop_partitions())
            except (ray.exceptions.RayError, RuntimeError, OSError) as error:
                # Whatever is left is ended by its mark.
                log.warning("ray_stop_failed", error=str(error))
            ray.shutdown()

    async def _stop_partitions(self) -> None:
        """Let each write a last checkpoint, so that the next start has little to replay."""
        from actors.durable.hosts import RayHosts

        hosts = [RayHosts(kind.recipe, runtime.NAMESPACE) for kind in self._kinds()]
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _PARTITION_STOP_S):
                await asyncio.gather(
                    *(keeper.end() for keeper in self._keepers()),
                    *(of.end_all(_PARTITION_STOP_S) for of in hosts),
                )


def secret_key(settings: Settings, data: DataFolder) -> bytes:
    """The platform's secret: the operator's, or else the data folder's own."""
    key = settings.secret_key
    return data.secret() if key is None else key.get_secret_value().encode()


def app_config(
    settings: Settings, data: DataFolder, database_url: str, redis_url: str, dashboard_url: str
) -> AppConfig:
    """What a replica is told: plain values, no environment."""
    import importlib.metadata

    from actors.rates import RateSettings
    from domain.money import parse_amount
    from serve_apps.exchange.limits import LimitSettings
    from serve_apps.gateway.limits import RequestLimits
    from serve_apps.services import AppConfig

    key = secret_key(settings, data)
    return AppConfig(
        database_url=database_url,
        redis_url=redis_url,
        secret_key=key,
        policy=settings.policy(),
        public_url=settings.url,
        secure_cookies=settings.cookies_are_secure,
        dev_mode=settings.development,
        staff_factor=not settings.development,
        static_dir=str(Path(assets.STATIC)),
        access_log=str(data.logs / "access.log"),
        dashboard_url=dashboard_url,
        version=importlib.metadata.version("kontor"),
        via_header=via_header(key),
        forwarded_hops=settings.forwarded_hops,
        private_webhooks=settings.private_webhooks,
        limits=LimitSettings(
            settings.exchange_weight_1m,
            settings.exchange_requests_1m,
            settings.exchange_orders_10s,
            settings.exchange_orders_1d,
            settings.exchange_key_weight_1m,
        ),
        cors_origins=tuple(settings.cors_origins),
        body_s=settings.body_seconds,
        answer_s=settings.answer_seconds,
        request_limits=RequestLimits(
            **settings.limits.model_dump(), strategy=settings.limit_strategy
        ),
        bonus_currency=settings.bonus_currency,
        bonus_amount=parse_amount(settings.bonus_amount, settings.bonus_currency),
        rates=RateSettings(
            source=settings.rates_source,
            path=str(settings.rates_file or ""),
            url=settings.rates_url,
            spread_basis_points=settings.rates_spread_basis_points,
            valid_s=settings.quote_seconds,
            age_days_max=settings.rates_age_days_max,
        ),
        quote_s=settings.quote_seconds,
    )
