"""The platform of this process: its parts put together, and how one is opened."""

from __future__ import annotations

from pathlib import Path

from embedcore.api import PlatformApi
from embedcore.clock import Clock
from embedcore.errors import NotFound, Unavailable
from embedcore.platform.core import Progress, Settings
from embedcore.platform.evaluation_part import EvaluationPart
from embedcore.platform.item_part import ItemPart
from embedcore.platform.migration_part import MigrationPart
from embedcore.platform.upkeep_part import UpkeepPart
from embedcore.remote import RemotePlatform
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.store.dialect import Durability
from embedcore.store.ownership import DirectoryOwned, Ownership
from embedcore.store.reserve import ReserveSettings


class Platform(ItemPart, EvaluationPart, MigrationPart, UpkeepPart, PlatformApi):
    """A platform in this process, owner of its data directory. Use :meth:`open`."""

    @staticmethod
    def open(
        where: str | Path,
        *,
        clock: Clock | None = None,
        time_scale: float = 1.0,
        simulated: bool | None = None,
        create: bool = True,
        shards: int | None = None,
        seed: int = 0,
        threads: bool = True,
        token: str | None = None,
        progress: Progress | None = None,
        snapshots: SnapshotSettings | None = None,
        wait: bool = True,
        durability: Durability = "fsync",
        reserve: ReserveSettings | None = None,
    ) -> Platform | RemotePlatform:
        """Opens a data directory, or connects to ``grpc://host:port``.

        A directory that a live server owns is reached through that server. ``simulated=True`` marks a new
        directory as simulated, which alone allows ``time_scale`` other than 1. ``threads=False`` runs
        nothing in the background: lanes and the migration controller are stepped by hand. ``wait=False``
        returns before the indexes are recovered: writes are taken at once, what needs an index is Unavailable
        until :meth:`wait_recovered`. ``snapshots``: when they are taken and how they are used.
        ``durability``: when a write is acknowledged, "fsync" or "os"; ``reserve``: what writes leave free of
        disk and memory; both are the owner's and not a server's clients' (docs/durability.md). Raises
        Unavailable when the directory is owned by a process that serves no address.
        """
        if isinstance(where, str) and where.startswith("grpc://"):
            return RemotePlatform(where.removeprefix("grpc://"), token=token)
        data_dir = Path(where)
        if not create and not data_dir.is_dir():
            raise NotFound(f"no data directory at {data_dir}: create one with `embedcore serve --data`")
        try:
            ownership = Ownership.acquire(data_dir)
        except DirectoryOwned as owned:
            owner = owned.owner
            if not owner.address:
                raise Unavailable(
                    f"{data_dir} is owned by process {owner.pid}, which serves no address; stop it first"
                ) from None
            return RemotePlatform(owner.address, stream_address=owner.stream_address or None, token=token)
        try:
            settings = Settings(
                clock=clock,
                time_scale=time_scale,
                simulated=simulated,
                shards=shards,
                seed=seed,
                threads=threads,
                progress=progress,
                snapshots=snapshots,
                wait=wait,
                durability=durability,
                reserve=reserve,
            )
            return Platform(ownership, settings)
        except BaseException:
            ownership.release()
            raise
