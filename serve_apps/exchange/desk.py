"""The trading API of a replica: what its operations share, and how the outside reaches them.

``Desk`` is made from the replica's services. It may use the accounts client, the catalogue and
market data in memory, the queries of history, and the replica's counts for limits.
"""

from __future__ import annotations

from domain.accounts.trading import Terms
from persistence.trading.catalogue import Instrument
from serve_apps.exchange.errors import bad_symbol
from serve_apps.exchange.limits import Limits
from serve_apps.exchange.listenkeys import ListenKeys
from serve_apps.services import Services


class Desk:
    """What operations work with."""

    listen_keys: ListenKeys

    def __init__(self, services: Services) -> None:
        self.services = services
        self.limits = Limits(services.config.limits, services.counts)
        self._terms: dict[str, tuple[Instrument, Terms]] = {}

    def open(self) -> None:
        """Begin. Services are open by now."""
        self.listen_keys = ListenKeys(self.services.redis)

    def now(self) -> int:
        """Microseconds since the epoch."""
        return int(self.services.now().timestamp() * 1_000_000)

    def instrument(self, symbol: str) -> Instrument:
        """What is listed as ``symbol``. Raises ``Refused`` (-1121)."""
        found = self.services.catalogue.get(symbol)
        if found is None or found.status == "delisted":
            raise bad_symbol()
        return found

    def terms(self, instrument: Instrument) -> Terms:
        """What the customer's entity must know of an instrument."""
        known = self._terms.get(instrument.symbol)
        if known is not None and known[0] is instrument:
            return known[1]
        terms = Terms(
            instrument.base,
            instrument.quote,
            instrument.lot,
            instrument.unit,
            instrument.maker,
            instrument.taker,
        )
        self._terms[instrument.symbol] = (instrument, terms)
        return terms
