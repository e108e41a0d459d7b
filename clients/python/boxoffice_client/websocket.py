"""As much of RFC 6455 as it takes to listen: a client that reads texts, answers pings and says goodbye."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from typing import Optional

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD_MAX = 16 * 1024
# A snapshot of 200,000 seats takes a few of them.
_MESSAGE_MAX = 64 * 1024 * 1024

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class Refused(Exception):
    """The server did not change to the protocol."""

    def __init__(self, status: int) -> None:
        super().__init__(f"no WebSocket: {status}")
        self.status = status


class ProtocolError(OSError):
    """The other side does not keep to the protocol."""


class WebSocket:
    """One connection. Whoever reads too late finds the socket's timeout; `OSError` is whatever ends it but a goodbye."""

    def __init__(self, sock: socket.socket, host: str, target: str, headers: dict[str, str]) -> None:
        self._sock, self._rest = sock, b""
        if any(end in value for value in headers.values() for end in "\r\n"):
            raise ValueError("a header of several lines")
        key = base64.b64encode(os.urandom(16))
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}",
                 *(f"{name}: {value}" for name, value in headers.items())]
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._rest:
            if len(self._rest) > _HEAD_MAX:
                raise ProtocolError("its head has no end")
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        try:
            status = int(first.split(" ")[1])
        except (IndexError, ValueError):
            raise ProtocolError("it does not speak HTTP") from None
        if status != 101:
            raise Refused(status)
        named = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        expected = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        if named.get("sec-websocket-accept") != expected or named.get("upgrade", "").lower() != "websocket":
            raise ProtocolError("it does not accept the key")

    def read(self) -> Optional[str]:
        """The next text, or none when the other side has said goodbye."""
        parts: list[bytes] = []
        while True:
            last, code, payload = self._frame()
            if code == _PING:
                self._send(_PONG, payload)
            elif code == _CLOSE:
                self._send(_CLOSE, payload[:2])
                return None
            elif code in (_TEXT, _CONTINUATION):
                if (code == _TEXT) == bool(parts):
                    raise ProtocolError("its fragments are not in order")
                parts.append(payload)
                if sum(map(len, parts)) > _MESSAGE_MAX:
                    raise ProtocolError("its message is too long")
                if last:
                    return b"".join(parts).decode()
            elif code != _PONG:
                raise ProtocolError(f"a frame of kind {code}")

    def close(self) -> None:
        try:
            self._send(_CLOSE, (1000).to_bytes(2, "big"))
        except OSError:
            pass
        self._sock.close()

    def _frame(self) -> tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        if first & 0x70 or second & 0x80:
            raise ProtocolError("a frame by another protocol")
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self._exactly(2), "big")
        elif length == 127:
            length = int.from_bytes(self._exactly(8), "big")
        if length > _MESSAGE_MAX:
            raise ProtocolError("its message is too long")
        return bool(first & 0x80), first & 0x0F, self._exactly(length)

    def _send(self, code: int, payload: bytes) -> None:
        """What a listener has to say is short."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._sock.sendall(bytes([0x80 | code, 0x80 | len(payload)]) + mask + masked)

    def _exactly(self, length: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < length:
            part = self._sock.recv(65536)
            if not part:
                raise ConnectionResetError("the connection ended without a goodbye")
            parts.append(part)
            have += len(part)
        read = b"".join(parts)
        self._rest = read[length:]
        return read[:length]

    def _receive(self) -> None:
        part = self._sock.recv(65536)
        if not part:
            raise ConnectionResetError("the connection ended without a goodbye")
        self._rest += part
