"""What is followed as it changes, on top of the operations: live seats, the waiting room, events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .api import AreaSeats, Event, Operations, Token
from .calls import Call, Problem, Unreachable, backoff, path_of
from .websocket import Refused, WebSocket


class TurnLost(Exception):
    """The place in line is gone, or its turn is over."""

    def __init__(self, token: Token) -> None:
        super().__init__(f"the token {token['id']} is {token['status']}")
        self.token = token


@dataclass(frozen=True)
class SeatsNow:
    """What came to be since the last time, and with it the whole."""

    seq: int
    """Grows with every change; the same as in `get_seats`."""
    seats: Mapping[str, str]
    """`held`, `sold` or `blocked`, of those that are not available. It changes with the next one: copy what is to stay."""
    areas: Mapping[str, AreaSeats]
    changed: Optional[Mapping[str, str]]
    """Seats that changed, with `available` among what they are; none: all may have."""


class Boxoffice(Operations):
    """Calls one server, as one user. Threads may share it."""

    def follow_seats(self, option_id: str, *, silence: float = 60.0) -> Iterator[SeatsNow]:
        """Follows the seats of an option without end, over as many connections as it takes: leave the loop to end it.
        Connects anew when nothing, not even a ping, came for `silence` seconds."""
        seats: dict[str, str] = {}
        areas: dict[str, AreaSeats] = {}
        seq: Optional[int] = None
        told: Optional[int] = None
        failures = 0
        while True:
            since = "" if seq is None else f"?since={seq}"
            try:
                for message in self._messages(f"/v1/options/{path_of(option_id)}/live{since}", silence):
                    failures = 0
                    if message["type"] == "snapshot":
                        seats.clear()
                        areas.clear()
                    elif message["type"] != "delta":
                        continue
                    elif message["previous_seq"] != seq:
                        # It does not follow what is known: begin anew.
                        seq = None
                        break
                    for seat, status in message["seats"].items():
                        if status == "available":
                            seats.pop(seat, None)
                        else:
                            seats[seat] = status
                    areas.update(message["areas"])
                    seq = message["seq"]
                    if seq is not None and seq != told:
                        told = seq
                        yield SeatsNow(seq, seats, areas, message["seats"] if message["type"] == "delta" else None)
            except Unreachable:
                # A socket does not tell why it was refused.
                _unless_final(lambda: self.get_option(option_id))
            failures += 1
            time.sleep(backoff(failures))

    def wait_for_turn(
        self,
        concert_id: str,
        *,
        on_change: Optional[Callable[[Token], None]] = None,
        timeout: Optional[float] = None,
        poll: bool = False,
    ) -> Token:
        """Joins the line of a concert, or goes on where this user stood, and waits until it is the user's turn; where there
        is no line, it is at once. Hold seats with `queue_token=token["token"]`.

        `on_change` is told whenever something has changed, the place in line for example. `timeout`: after how many seconds
        `TimeoutError` is raised; the place in line stays. `poll`: asks every so often in place of following a socket; so it
        does, too, where none can be opened. Raises `TurnLost`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        token = self.issue_token(concert_id)
        told: Optional[Token] = None
        failures = 0

        def is_turn() -> bool:
            nonlocal told
            if on_change and token != told:
                on_change(token)
            told = token
            if token["status"] in ("used", "expired"):
                raise TurnLost(token)
            return token["status"] == "active"

        def wait(seconds: float) -> None:
            left = seconds if deadline is None else deadline - time.monotonic()
            time.sleep(max(0.0, min(seconds, left)))
            if left <= seconds and deadline is not None:
                raise TimeoutError("it is not the user's turn yet")

        while not is_turn():
            if poll:
                wait(max(1, token["refresh_interval_seconds"]))
            else:
                try:
                    # Something comes every 5 s.
                    for message in self._messages(f"/v1/tokens/{path_of(token['id'])}/live", 20.0):
                        if message.pop("type") == "token":
                            failures, token = 0, message
                            if is_turn():
                                break
                            wait(0)
                except Unreachable:
                    # Whatever stands between does not let sockets through.
                    poll = True
                if token["status"] == "active":
                    break
                failures += 1
                wait(backoff(failures))
            asked: Optional[Token] = _unless_final(lambda: self.get_token(token["id"]))
            token = asked or token
        return token

    def follow_events(self, after: Optional[str] = None) -> Iterator[Event]:
        """Follows events (admin) without end, from after the one named, or from the oldest: leave the loop to end it."""
        failures = 0
        while True:
            page = _unless_final(lambda: self.list_events(after=after, wait_seconds=30))
            if page is None:
                failures += 1
                time.sleep(backoff(failures))
                continue
            failures = 0
            yield from page["items"]
            after = page["next_after"] or after

    def _messages(self, path: str, silence: float) -> Iterator[Any]:
        """The messages of one connection, until it ends. Raises `Unreachable` unless it was ever open."""
        try:
            sock = self._dial(self._attempt_timeout)
        except OSError as error:
            raise Unreachable(f"no connection to {path}: {error!r}") from error
        try:
            token = self._token()
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            host = f"[{self._host}]" if ":" in self._host else self._host
            host = host if self._port is None else f"{host}:{self._port}"
            socket = WebSocket(sock, host, self._prefix + path, headers)
        except (OSError, Refused) as error:
            sock.close()
            raise Unreachable(f"no connection to {path}: {error!r}") from error
        except BaseException:
            sock.close()
            raise
        try:
            sock.settimeout(silence)
            while True:
                try:
                    text = socket.read()
                except OSError:
                    return
                if text is None:
                    return
                yield json.loads(text)
        finally:
            socket.close()


def _unless_final(ask: Callable[[], Any]) -> Any:
    """The answer, or none if the next time may be different."""
    try:
        return ask()
    except Unreachable:
        return None
    except Problem as problem:
        if problem.status == 429 or problem.status >= 500:
            return None
        raise
