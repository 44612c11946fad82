"""Connections that send no request end, since their number is limited.

uvicorn waits for the head of a request without limit: whoever opens enough connections,
and needs no token for it, would lock everybody else out.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

REQUEST_SECONDS = 20.0  # in which the head of the next request has to come


class HttpConnection(H11Protocol):
    """A connection of uvicorn that closes if no request comes for a while."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look whether requests come."""
        super().connection_made(transport)
        self._look_later()

    def _look_later(self) -> None:
        self.loop.call_later(REQUEST_SECONDS, self._close_if_idle, self.cycle)

    def _close_if_idle(self, before: RequestResponseCycle | None) -> None:
        """Close it if it has had no request since it was looked at."""
        if self not in self.connections:  # closed, or a WebSocket now
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is before:
            self.transport.close()
        else:
            self._look_later()
