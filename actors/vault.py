"""Secrets of customers that have to be read again: kept encrypted, bound to what they belong to.

Pure but for random nonces. The key of each purpose is derived from the platform's secret with
HKDF-SHA256, so that what was sealed for one purpose cannot be opened for another.
"""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["API_KEYS", "SECOND_FACTORS", "WEBHOOKS", "InvalidTag", "Vault"]

API_KEYS: Final = "api key secrets"
WEBHOOKS: Final = "webhook secrets"
SECOND_FACTORS: Final = "second factors"

_NONCE_SIZE: Final = 12


class Vault:
    """Encrypts secrets of one purpose with AES-256-GCM."""

    def __init__(self, secret_key: bytes, purpose: str) -> None:
        derived = HKDF(hashes.SHA256(), 32, b"kontor", purpose.encode()).derive(secret_key)
        self._box = AESGCM(derived)

    def seal(self, owner: str, secret: bytes) -> bytes:
        """Nonce and ciphertext; readable only together with the same owner."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return nonce + self._box.encrypt(nonce, secret, owner.encode())

    def open(self, owner: str, sealed: bytes) -> bytes:
        """The secret. Raises ``InvalidTag`` when it was sealed by another key or for another."""
        return self._box.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], owner.encode())
