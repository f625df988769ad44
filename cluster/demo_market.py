"""The market of development mode: instruments of each kind, who issued them, and who makes prices.

Done on the same paths as anybody's: two dealers sign up, fund their brokerage, and instruments are
listed as an administrator lists them. Each step is done once, however often this is called; the
last of them is the last listing, so that a later start need only look for that.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog

from cluster.bot import Bot
from cluster.settings import Settings
from domain.durable import Rejection, Unavailable
from domain.orders import UNIT
from domain.trading.rules import BookCode

if TYPE_CHECKING:
    from serve_apps.listing import Listing
    from serve_apps.services import AppConfig, Services

log = structlog.get_logger("kontor.demo")

QUOTE: Final = "USD"
LABEL: Final = "market making"
ENDOWMENT: Final = 50_000_000_00
"""Cents that a dealer gets instead of the usual welcome bonus."""

T = TypeVar("T")


class Demo(NamedTuple):
    """An instrument against the dollar. ``issued`` whole units belong to its issuer at first."""

    base: str
    type: str
    name: str
    reference: str
    tick: str
    lot: str
    issued: str
    description: str


MARKET: Final = (
    Demo("NORD", "stock", "Nordavia Airlines", "42.10", "0.01", "1", "12000000",
         "Flies between forty cities of the north. Its own shares, issued in full."),
    Demo("HELX", "stock", "Helix Robotics", "187.50", "0.01", "1", "4000000",
         "Arms and eyes for warehouses."),
    Demo("OAKM", "stock", "Oakmoor Foods", "23.40", "0.01", "1", "20000000",
         "Bread, oats and a chain of bakeries."),
    Demo("SUNP", "stock", "Sunpeak Energy", "64.80", "0.01", "1", "9000000",
         "Solar parks and the storage beside them."),
    Demo("KTB31", "bond", "Kontor Treasury 4% 2031", "98.75", "0.005", "1", "5000000",
         "Pays 4 per cent a year until 2031; priced for 100 of face value."),
    Demo("RAIL29", "bond", "Continental Rail 5.25% 2029", "101.20", "0.005", "1", "2000000",
         "Pays 5.25 per cent a year until 2029; secured on rolling stock."),
    Demo("CITY35", "bond", "Harbour City 3.1% 2035", "91.40", "0.005", "1", "3000000",
         "A municipal bond for a tram line."),
    Demo("WRLD", "fund", "World Equity Index Fund", "112.60", "0.01", "0.01", "8000000",
         "1,500 companies of 23 countries in one share."),
    Demo("GRNB", "fund", "Green Bond Fund", "51.35", "0.01", "0.01", "6000000",
         "Bonds whose proceeds build wind, sun and rails."),
    Demo("GOLDT", "fund", "Gold Trust", "218.90", "0.01", "0.01", "1500000",
         "A tenth of an ounce of gold in a vault for each share."),
    Demo("SOL", "crypto", "Solana", "152.40", "0.01", "0.001", "", "Pays for programs on Solana."),
    Demo("LTC", "crypto", "Litecoin", "84.15", "0.01", "0.001", "", "A relative of Bitcoin."),
    Demo("ETH", "crypto", "Ether", "3120.00", "0.01", "0.0001", "",
         "Pays for programs on Ethereum."),
    Demo("BTC", "crypto", "Bitcoin", "64250.00", "0.01", "0.00001", "",
         "The first coin, limited to 21 million."),
)  # fmt: skip
"""What is listed, in this order."""

_COINS: Final = {"SOL": 400_000, "LTC": 300_000, "ETH": 40_000, "BTC": 2_000}
"""Coins that each dealer gets; shares are all the maker's at first, who is their issuer."""


class Dealer(NamedTuple):
    """Who trades for the bot, and the API key that it does it with."""

    email: str
    name: str
    user: int = 0
    key: str = ""
    secret: str = ""


MAKER: Final = Dealer("maker@example.com", "Market Maker")
TAKER: Final = Dealer("taker@example.com", "Day Trader")


async def open_market(config: AppConfig) -> tuple[Dealer, Dealer] | None:
    """List the demo's instruments unless they are; the dealers, maker first, with new keys."""
    from serve_apps.services import Services

    services = Services(replace(config, bonus_currency=QUOTE, bonus_amount=ENDOWMENT))
    await services.open()
    try:
        maker, taker = [await _sign_up(services, dealer) for dealer in (MAKER, TAKER)]
        if services.catalogue.get(MARKET[-1].base + QUOTE) is None:
            for dealer in (maker, taker):
                await _endow(services, dealer)
            for demo in MARKET:
                await _list(services, demo, maker)
        return await _with_key(services, maker), await _with_key(services, taker)
    except _RefusedError as error:
        log.warning("demo_market_refused", reason=str(error))
        return None
    finally:
        await services.close()


def make_bot(dealers: tuple[Dealer, Dealer], settings: Settings) -> Bot:
    """The bot that trades for the dealers, through the platform's own front door."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    maker, taker = dealers
    return Bot(
        f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}",
        (maker.key, maker.secret),
        (taker.key, taker.secret),
        {demo.base + QUOTE: demo.reference for demo in MARKET},
    )


class _RefusedError(Exception):
    """Something that the demo needs was refused."""


def _done(reply: T | Rejection | Unavailable, *allowed: str) -> T:
    """What was asked for has been done, now or before."""
    if isinstance(reply, Unavailable) or (
        isinstance(reply, Rejection) and reply.code not in allowed
    ):
        raise _RefusedError(repr(reply))
    return reply  # type: ignore[return-value]


async def _sign_up(services: Services, dealer: Dealer) -> Dealer:
    from persistence import identity as store
    from serve_apps import identity

    row = await store.user_by_email(services.pool, dealer.email)
    if row is None:
        # Nobody logs in as a dealer: the password is told to nobody.
        password = secrets.token_urlsafe(24)
        _done(
            await identity.signup(services, dealer.email, dealer.name, password, identity.Client())
        )
        row = await store.user_by_email(services.pool, dealer.email)
        assert row is not None
    else:
        await identity.open_customer(services, row.id)
    return dealer._replace(user=row.id)


async def _endow(services: Services, dealer: Dealer) -> None:
    """Put the dealer's money into the brokerage, and coins beside it."""
    from domain.accounts.commands import CustomerView
    from domain.money import format_amount
    from serve_apps import accounts, brokerage

    view = await accounts.overview(services, dealer.user)
    if not isinstance(view, CustomerView):
        raise _RefusedError(repr(view))
    account = next(one for one in view.accounts if one.currency == QUOTE)
    amount = format_amount(ENDOWMENT, QUOTE)
    _done(
        await brokerage.fund(services, dealer.user, account.id, amount, "demo"),
        "insufficient_funds",
    )
    for asset, coins in _COINS.items():
        _done(await brokerage.issue(services, dealer.user, asset, coins * UNIT, f"demo {asset}"))


def listing_of(demo: Demo, issuer: int) -> Listing:
    """What an administrator would fill in."""
    from serve_apps.listing import Listing

    return Listing(
        base=demo.base,
        quote=QUOTE,
        type=demo.type,
        name=demo.name,
        tick=demo.tick,
        lot=demo.lot,
        description=demo.description,
        reference=demo.reference,
        notional_min="5",
        band_up="50",
        band_down="50",
        orders_max="1000",
        issued=demo.issued,
        issuer=str(issuer) if demo.issued else "",
    )


async def _list(services: Services, demo: Demo, issuer: Dealer) -> None:
    from serve_apps.listing import list_instrument, listing_id

    command_id = listing_id("demo", demo.base)
    books: Any = services.books
    reply = await list_instrument(
        books, services.accounts, listing_of(demo, issuer.user), command_id
    )
    _done(reply, BookCode.ALREADY_LISTED)


async def _with_key(services: Services, dealer: Dealer) -> Dealer:
    """A key of this start; that of the last is of no use to anybody any more."""
    from persistence.apikeys import keys_of
    from serve_apps.exchange.keys import SCOPES, make_key

    pool, secret_key, user = services.pool, services.config.secret_key, dealer.user
    for row in await keys_of(pool, user):
        if row.label == LABEL:
            await services.api_keys.revoke(user, row.id)
    made = _done(await make_key(pool, secret_key, user, LABEL, SCOPES, now=services.now()))
    return dealer._replace(key=made.key, secret=made.secret)
