"""The gRPC server over a platform: protos, services, security. It translates, authorises and delegates."""

from embedcore.server.app import Server
from embedcore.server.config import ServerConfig

__all__ = ["Server", "ServerConfig"]
