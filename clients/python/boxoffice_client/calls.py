"""One call of the API: how it is made, what may be tried again, and what goes wrong."""

from __future__ import annotations

import http.client
import json
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar, Union
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from .api import FieldError

T = TypeVar("T")
Token = Union[str, Callable[[], Optional[str]], None]

# Servers and what stands before them let go of idle connections; one that is younger is most likely still there.
_IDLE_SECONDS = 15.0
_IDLE_CONNECTIONS = 16


class Problem(Exception):
    """What the server refused, by RFC 9457."""

    def __init__(self, status: int, code: str, problem: dict[str, Any], retry_after: Optional[float]) -> None:
        super().__init__(f"{status} {code}: {problem.get('detail') or problem.get('title') or 'no problem document'}")
        self.status = status
        """The HTTP status."""
        self.code = code
        """What it is, such as `seats_unavailable`; `http_<status>` if it was not the server who answered."""
        self.fields: list[FieldError] = problem.get("errors", [])
        """What is wrong with which field of the request."""
        self.problem = problem
        """All that was said, such as `conflicts`."""
        self.retry_after = retry_after
        """After how many seconds it may be tried again, if that was said."""


class Unreachable(Exception):
    """There was no answer, as often as it was tried. A write may have been done."""


@dataclass(frozen=True)
class Call:
    """One call, as the operations tell it."""

    method: str
    path: str
    query: Mapping[str, Union[str, int, bool, None]] = field(default_factory=dict)
    body: Optional[Mapping[str, Any]] = None
    headers: Mapping[str, Optional[str]] = field(default_factory=dict)
    try_again: bool = False
    """Whether doing it twice is doing it once: reads, and writes with a key."""
    answers: Sequence[int] = ()
    """What is no failure, beside 2xx."""


@dataclass(frozen=True)
class Tagged(Generic[T]):
    """A value, and what to ask with whether it has changed."""

    value: T
    etag: str


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a list."""

    items: list[T]
    next_cursor: Optional[str]


class Pages(Generic[T]):
    """A list: its items, whatever pages they come in."""

    def __init__(self, fetch: Callable[[Optional[str]], Any]) -> None:
        self._fetch = fetch

    def pages(self) -> Iterator[Page[T]]:
        """Page by page, each with the cursor at which the next one begins."""
        cursor = None
        while True:
            answer = self._fetch(cursor)
            page: Page[T] = Page(answer["items"], answer["next_cursor"])
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items


def new_key() -> str:
    """A key that nobody else makes."""
    return secrets.token_hex(16)


def path_of(part: str) -> str:
    """A part of a path, whatever is in it. Raises `ValueError` for dots, which may lead elsewhere on the way."""
    if part in (".", ".."):
        raise ValueError(f"not an id: {part}")
    return quote(part, safe="")


def backoff(failures: int) -> float:
    """How long to wait after so many failures in a row: up to 0.25 s, 0.5 s and so on to 8 s, by chance, so that not all
    come at once."""
    return random.uniform(0, min(8.0, 0.25 * 2.0 ** (failures - 1)))


class Calls:
    """Makes calls to one server."""

    def __init__(
        self,
        url: str,
        token: Token = None,
        *,
        attempts: int = 4,
        timeout: float = 60.0,
        attempt_timeout: float = 30.0,
        ssl_context: Optional[ssl.SSLContext] = None,
    ) -> None:
        """
        `url`: where the server is, such as `https://tickets.example`. `token`: a JWT, or what gives one: it is asked before
        each attempt. `attempts`: how often a call is tried at the most. `timeout`: how many seconds a call may take with all
        of its attempts and pauses. `attempt_timeout`: for how many seconds one attempt may bring nothing.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the address of a server: {url!r}")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._given_token = token
        self._attempts, self._timeout, self._attempt_timeout = attempts, timeout, attempt_timeout
        self._ssl_context = ssl_context or (ssl.create_default_context() if self._secure else None)
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Lets go of connections that are kept for the next call."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _token(self) -> Optional[str]:
        return self._given_token() if callable(self._given_token) else self._given_token

    def _call(self, call: Call) -> Any:
        _, _, body = self._answer(call, "application/json")
        return json.loads(body) if body else None

    def _text(self, call: Call) -> str:
        return self._answer(call, "text/csv")[2].decode()

    def _changed(self, call: Call, etag: Optional[str]) -> Optional[Tagged[Any]]:
        conditional = Call(call.method, call.path, call.query, call.body, {**call.headers, "If-None-Match": etag},
                           call.try_again, [304])
        status, headers, body = self._answer(conditional, "application/json")
        return None if status == 304 else Tagged(json.loads(body), headers.get("ETag", ""))

    def _pages(self, call: Call) -> Pages[Any]:
        def fetch(cursor: Optional[str]) -> Any:
            query = call.query if cursor is None else {**call.query, "cursor": cursor}
            return self._call(Call(call.method, call.path, query, call.body, call.headers, call.try_again))

        return Pages(fetch)

    def _answer(self, call: Call, accept: str) -> tuple[int, Message, bytes]:
        # Whoever asks the server to wait, waits as well.
        waits = float(call.query.get("wait_seconds") or 0)
        deadline = time.monotonic() + self._timeout + waits
        attempt = 1
        while True:
            failure: Union[Problem, Unreachable]
            try:
                status, headers, body = self._attempt(call, accept, deadline, waits)
                if 200 <= status < 300 or status in call.answers:
                    return status, headers, body
                failure = _problem_of(status, headers, body)
                may_pass, asked = status in (429, 503), failure.retry_after or 0.0
            except (OSError, http.client.HTTPException) as error:
                failure = Unreachable(f"no answer to {call.method} {call.path}: {error!r}")
                failure.__cause__ = error
                may_pass, asked = True, 0.0
            wait = asked + backoff(attempt)
            if not (call.try_again and may_pass and attempt < self._attempts and time.monotonic() + wait < deadline):
                raise failure
            time.sleep(wait)
            attempt += 1

    def _attempt(self, call: Call, accept: str, deadline: float, waits: float) -> tuple[int, Message, bytes]:
        query = {name: _shown(value) for name, value in call.query.items() if value is not None}
        target = self._prefix + call.path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": accept, **{name: value for name, value in call.headers.items() if value is not None}}
        token = self._token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(call.body).encode()
        connection = self._connection()
        try:
            connection.timeout = max(0.001, min(self._attempt_timeout + waits, deadline - time.monotonic()))
            if connection.sock is not None:
                connection.sock.settimeout(connection.timeout)
            connection.request(call.method, target, body, headers)
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return response.status, response.headers, content

    def _connection(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                since, connection = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS and _is_open(connection):
                return connection
            connection.close()
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, context=self._ssl_context)
        return http.client.HTTPConnection(self._host, self._port)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock is not None and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def _dial(self, timeout: float) -> socket.socket:
        """A connection for what is not HTTP for long."""
        plain = socket.create_connection((self._host, self._port or (443 if self._secure else 80)), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._ssl_context is None:
            return plain
        try:
            return self._ssl_context.wrap_socket(plain, server_hostname=self._host)
        except BaseException:
            plain.close()
            raise


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """Whether nothing has come on an idle connection: an end, or what nobody asked for."""
    sock = connection.sock
    if sock is None:
        return False
    try:
        sock.settimeout(0)
        sock.recv(1)
        return False
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def _shown(value: Union[str, int, bool, None]) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem_of(status: int, headers: Message, body: bytes) -> Problem:
    said: Any = {}
    if headers.get("Content-Type", "").startswith("application/problem+json"):
        said = json.loads(body)
    return Problem(status, said.get("code", f"http_{status}"), said, _retry_after(headers.get("Retry-After")))


def _retry_after(header: Optional[str]) -> Optional[float]:
    """Seconds, or a time."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
