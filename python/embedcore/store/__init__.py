"""The durable truth: a transactional store of which all indexes are caches.

Open it with :func:`open_store`; the contract is :class:`embedcore.store.interface.Store`.
"""

from __future__ import annotations

from embedcore.store.opening import open_store
from embedcore.store.ownership import DirectoryOwned, DirectoryOwner, Ownership, read_owner
from embedcore.store.sql_store import SqlStore

__all__ = ["DirectoryOwned", "DirectoryOwner", "Ownership", "SqlStore", "open_store", "read_owner"]
