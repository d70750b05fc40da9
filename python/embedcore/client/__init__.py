"""The typed gRPC clients: :class:`Client` blocks, :class:`AsyncClient` runs in an event loop."""

from embedcore.client.asynchronous import AsyncClient
from embedcore.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
