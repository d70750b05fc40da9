"""A platform behind a server: the same object as in this process, through gRPC."""

from __future__ import annotations

from embedcore.client import calls
from embedcore.client.shared import SharedCalls
from embedcore.types import SearchAnswer, SearchRequest


class RemotePlatform(SharedCalls):
    """PlatformApi over a server's address; ``Platform.open("grpc://host:port")`` returns one.

    Arguments, threads and errors: see :class:`embedcore.client.transport.Transport`.
    """

    def search(self, request: SearchRequest) -> SearchAnswer:
        return self.run(calls.search(request))
