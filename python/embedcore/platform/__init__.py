"""The platform: one object that the command line, the server and the tests use.

It wires store, encoders, serving, evaluation and migration together, and decides nothing itself. Its parts
follow the sections of :class:`embedcore.api.PlatformApi`.
"""

from __future__ import annotations

from embedcore.platform.platform import Platform

__all__ = ["Platform"]
