"""A client for boxoffice: every operation of its API, tried again where that is safe, and what is followed as it changes."""

from . import api
from .calls import Page, Pages, Problem, Tagged, Unreachable
from .client import Boxoffice, SeatsNow, TurnLost
from .webhooks import WebhookInvalid, verify_webhook

__all__ = [
    "Boxoffice",
    "Page",
    "Pages",
    "Problem",
    "SeatsNow",
    "Tagged",
    "TurnLost",
    "Unreachable",
    "WebhookInvalid",
    "api",
    "verify_webhook",
]
