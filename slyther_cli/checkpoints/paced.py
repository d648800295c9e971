"""HTTP whose every answer has a deadline, and whose redirects stay where they may go.

A timeout alone counts from byte to byte: a server that drips a byte a second keeps its client for ever, be it
in headers, in answers of 1xx or in the sizes of chunks. Here each read of the socket looks at one clock.
"""

from __future__ import annotations

import io
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

MOST_HEAD = 1 << 20  # bytes before the body, with all redirects


class Pace:
    """When the server must have sent enough, by the monotonic clock. ``timeout``: seconds that one wait may
    take; ``allowed``: bytes that may still come before the body."""

    def __init__(self, timeout: float, seconds: float) -> None:
        self.timeout, self.deadline = timeout, time.monotonic() + seconds
        self.allowed: float = MOST_HEAD

    def grant(self, seconds: float) -> None:
        """So many seconds from now; the body has begun."""
        self.deadline, self.allowed = time.monotonic() + seconds, float("inf")

    def wait(self) -> float:
        """Seconds that the next read may take. Raises TimeoutError when the time is over."""
        left = self.deadline - time.monotonic()
        if left <= 0 or self.allowed < 0:
            raise TimeoutError("the deadline is over")
        return min(self.timeout, left)


class _Paced(io.RawIOBase):
    """The bytes of a socket, while there is time."""

    def __init__(self, sock: Any, raw: Any, pace: Pace) -> None:
        self._sock, self._raw, self._pace = sock, raw, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._pace.wait())
        count = self._raw.readinto(buffer)
        self._pace.allowed -= count or 0
        return count  # type: ignore[no-any-return]

    def close(self) -> None:
        self._raw.close()
        super().close()


def _paced(connection: type, pace: Pace) -> type:
    """The same kind of connection, its answers read as ``pace`` allows."""
    plain: Any = connection.response_class  # type: ignore[attr-defined]

    def response(sock: Any, *arguments: Any, **options: Any) -> Any:
        made = plain(sock, *arguments, **options)
        made.fp = io.BufferedReader(_Paced(sock, made.fp.detach(), pace))
        return made

    return type("Paced", (connection,), {"response_class": staticmethod(response)})


class _Opens:
    """For handlers of urllib."""

    pace: Pace

    def do_open(self, http_class: type, request: Any, **options: Any) -> Any:
        return super().do_open(_paced(http_class, self.pace), request, **options)  # type: ignore[misc]


class _Http(_Opens, urllib.request.HTTPHandler):  # type: ignore[misc]
    pass


class _Https(_Opens, urllib.request.HTTPSHandler):  # type: ignore[misc]
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To https, and from http to http; nowhere else."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            raise urllib.error.URLError(f"it redirects to {scheme or 'no scheme'}://, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def urlopen(request: urllib.request.Request, pace: Pace) -> Any:
    """As urllib's, over http and https alone, with the proxies of the environment, and its errors."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        _Http(),
        _Https(),
    ):
        if isinstance(handler, _Opens):
            handler.pace = pace
        opener.add_handler(handler)  # type: ignore[arg-type]
    return opener.open(request, timeout=pace.wait())
