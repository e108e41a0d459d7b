"""Deliveries of events, by Standard Webhooks 1.0."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Optional, Protocol, Union


class WebhookInvalid(Exception):
    """A delivery that is not what it says, or not of now. It must not be believed."""


class Headers(Protocol):
    """A dictionary, or what a server has in place of one."""

    def items(self) -> Iterable[tuple[str, str]]: ...


def verify_webhook(
    secrets: Union[str, Sequence[str]],
    headers: Headers,
    body: bytes,
    *,
    tolerance: float = 300.0,
    now: Optional[float] = None,
) -> Any:
    """What was delivered, if one of the secrets signed it: an `Event`; of the format `batch` a list of them, and of a
    template what it made. While a secret is being rotated deliveries have two signatures, so that the old one and the new
    one are each good by itself; more than one secret may be given all the same.

    `body`: what was received, byte by byte, not what JSON makes of it. `tolerance`: how many seconds its time may be from
    `now`, either way. Raises `WebhookInvalid`.
    """
    named = {name.lower(): value for name, value in headers.items()}
    id, at, signatures = (named.get(f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not id or not at or not signatures:
        raise WebhookInvalid("a header is missing")
    if not re.fullmatch(r"[0-9]{1,15}", at):
        raise WebhookInvalid("its time is none")
    if abs((time.time() if now is None else now) - int(at)) > tolerance:
        raise WebhookInvalid("its time is too far from now")
    signed = f"{id}.{at}.".encode() + body
    given = [_decode(it[3:]) for it in signatures.split(" ") if it.startswith("v1,")]
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        key = _decode(secret[6:] if secret.startswith("whsec_") else secret)
        if not key:
            raise ValueError("a secret is `whsec_` and Base64")
        expected = hmac.new(key, signed, hashlib.sha256).digest()
        # Takes as long for the first wrong byte as for the last.
        if any(hmac.compare_digest(expected, signature) for signature in given if signature):
            return json.loads(body)
    raise WebhookInvalid("none of its signatures is by a secret of ours")


def _decode(text: str) -> Optional[bytes]:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
