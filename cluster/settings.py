"""Settings: every value that an operator may choose, read from the environment once.

``.env.example`` documents the same variables; a test holds the two against each other. Nothing
below ``cluster`` reads the environment: it is given plain values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.accounts.policy import FeeRate, Policy
from domain.identity.rules import check_email
from domain.money import CURRENCIES, parse_amount

Port = Annotated[int, Field(ge=1, le=65535)]


class Fee(BaseModel, extra="forbid"):
    """Fee of one currency: ``minimum`` is a decimal amount such as ``"0.50"``."""

    basis_points: int = Field(ge=0, le=10_000)
    minimum: str = "0"


def _fees() -> dict[str, Fee]:
    return {
        "USD": Fee(basis_points=20, minimum="0.25"),
        "EUR": Fee(basis_points=20, minimum="0.25"),
        "CNY": Fee(basis_points=20, minimum="2.00"),
    }


def _daily_limits() -> dict[str, str]:
    return {"USD": "50000.00", "EUR": "50000.00", "CNY": "350000.00"}


Origin = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]
_WINDOW: Final = r"[1-9][0-9]{0,8}/(second|minute|hour|day)"
OneWindow = Annotated[str, Field(pattern=f"^{_WINDOW}$")]
Windows = Annotated[str, Field(pattern=f"^{_WINDOW}(;{_WINDOW})*$")]


class Limits(BaseModel, extra="forbid"):
    """How often one may ask; see ``serve_apps.gateway.limits``."""

    address: OneWindow = "6000/minute"
    session: OneWindow = "60000/minute"
    customer: OneWindow = "120000/minute"
    login: Windows = "60/minute;600/hour"
    login_subject: Windows = "20/minute;100/hour"
    sign_up: Windows = "60/minute;300/hour"
    sign_up_subject: Windows = "20/minute;60/hour"
    password_reset: Windows = "20/minute;60/hour"
    password_reset_subject: Windows = "3/minute;10/hour"
    second_factor: Windows = "60/minute;300/hour"
    second_factor_subject: Windows = "10/minute;50/hour"


class Settings(BaseSettings):
    """All settings, each as the environment variable ``KONTOR_`` plus its name."""

    model_config = SettingsConfigDict(
        env_prefix="KONTOR_",
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        validate_default=True,
        frozen=True,
    )

    mode: Literal["development", "production"] = "development"
    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = ""
    data_dir: Path = Path("var")
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    ray_address: str | None = None
    ray_cpus: int | None = Field(default=None, ge=1)
    dashboard_host: str = "127.0.0.1"
    dashboard_port: Port | None = None
    metrics_port: Port | None = None
    secret_key: SecretStr | None = None
    secure_cookies: bool | None = None
    partitions: int = Field(default=2, ge=1, le=4096)
    book_partitions: int = Field(default=1, ge=1, le=4096)
    replicas: int = Field(default=2, ge=1, le=64)
    rates_source: Literal["file", "ecb"] = "file"
    rates_file: Path | None = None
    rates_url: str = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"
    rates_spread_basis_points: int = Field(default=50, ge=0, le=1_000)
    rates_age_days_max: int = Field(default=0, ge=0)
    quote_seconds: int = Field(default=30, ge=5, le=600)
    fees: dict[str, Fee] = Field(default_factory=_fees)
    daily_limits: dict[str, str] = Field(default_factory=_daily_limits)
    bonus_currency: str = "USD"
    bonus_amount: str = "100.00"
    smtp_host: str = ""
    smtp_port: Port = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_username: str = ""
    smtp_password: SecretStr | None = None
    smtp_ca_file: Path | None = None
    smtp_connections: int = Field(default=4, ge=1, le=32)
    mail_from: str = ""
    mail_port: Port | None = None
    webhook_private_addresses: bool | None = None
    forwarded_hops: int = Field(default=0, ge=0, le=8)
    cors_origins: list[Origin] = Field(default_factory=list)
    keep_alive_seconds: int = Field(default=75, ge=1, le=3_600)
    body_seconds: float = Field(default=20.0, gt=0)
    answer_seconds: float = Field(default=45.0, gt=0)
    limits: Limits = Field(default_factory=Limits)
    limit_strategy: Literal["fixed-window", "moving-window", "sliding-window-counter"] = (
        "moving-window"
    )
    exchange_weight_1m: int = Field(default=6_000, ge=1)
    exchange_key_weight_1m: int = Field(default=12_000, ge=1)
    exchange_requests_1m: int = Field(default=1_200_000, ge=1)
    exchange_orders_10s: int = Field(default=20_000, ge=1)
    exchange_orders_1d: int = Field(default=50_000_000, ge=1)
    canary_max_error_rate: float | None = Field(default=None, ge=0.01, le=99)
    canary_max_latency_ratio: float | None = Field(default=None, ge=1.2, le=100)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _check(self) -> Settings:
        for currency in (*self.fees, *self.daily_limits, self.bonus_currency):
            if currency not in CURRENCIES:
                raise ValueError(f"unknown currency {currency}")
        self.policy()
        parse_amount(self.bonus_amount, self.bonus_currency)
        if self.mode == "production" and self.secret_key is None:
            raise ValueError("KONTOR_SECRET_KEY must be set in production")
        if self.secret_key is not None and len(self.secret_key.get_secret_value()) < 32:
            raise ValueError("KONTOR_SECRET_KEY must have 32 characters or more")
        if self.smtp_username and self.smtp_security == "none":
            raise ValueError("KONTOR_SMTP_SECURITY must not be none where there is a password")
        if self.mail_from and check_email(self.mail_from) is None:
            raise ValueError("KONTOR_MAIL_FROM is not an e-mail address")
        return self

    def policy(self) -> Policy:
        """Fees and limits in the form that the domain's rules take."""
        fees = {
            currency: FeeRate(fee.basis_points, parse_amount(fee.minimum, currency))
            for currency, fee in self.fees.items()
        }
        limits = {
            currency: parse_amount(limit, currency) for currency, limit in self.daily_limits.items()
        }
        return Policy(fees=fees, daily_limits=limits)

    @property
    def url(self) -> str:
        """Where customers reach the platform."""
        return self.public_url.rstrip("/") or f"http://localhost:{self.port}"

    @property
    def cookies_are_secure(self) -> bool:
        """Whether cookies are sent over TLS only."""
        if self.secure_cookies is not None:
            return self.secure_cookies
        return self.url.startswith("https://")

    @property
    def mail_sender(self) -> str:
        """The address that mails come from."""
        usual = f"no-reply@{urlsplit(self.url).hostname}"
        return self.mail_from or check_email(usual) or "no-reply@localhost"

    @property
    def catches_mail(self) -> bool:
        """Whether mails are caught by a server of our own, to be looked at."""
        return self.development and not self.smtp_host

    @property
    def private_webhooks(self) -> bool:
        """Whether webhooks may go to addresses that are not of the open Internet."""
        if self.webhook_private_addresses is not None:
            return self.webhook_private_addresses
        return self.development

    @property
    def development(self) -> bool:
        """Whether demo customers and development's conveniences are wanted."""
        return self.mode == "development"


def variables() -> dict[str, Any]:
    """Each environment variable with its default, for documentation and tests."""
    prefix = Settings.model_config.get("env_prefix", "")
    return {
        f"{prefix}{name}".upper(): field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
    }
