"""Restoring a backup: everything is verified before anything is put into its place."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

from embedcore.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from embedcore.store import schema
from embedcore.store.backup import FORMAT, MANIFEST, Progress, describe, digest_of
from embedcore.store.backup_folder import BackupFolder, FileEntry
from embedcore.store.files import sync_directory
from embedcore.store.sql_store import DATABASE_FILE

# What a backup may put into a data directory, and nothing else.
_NAME: Final = re.compile(r"store\.sqlite|snapshots/g\d+-s\d+/\d+\.ecx")


def read_manifest(source: str) -> dict[str, Any]:
    """The manifest of a backup, checked. DataLoss when there is none (the backup is not whole) or it is
    damaged; FailedPrecondition for one of a newer embedcore."""
    return _manifest(BackupFolder(source))


def restore_backup(source: str, data_dir: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """Makes a data directory of a backup; returns its manifest.

    The directory must be empty or not exist. Files are fetched beside it, compared with the manifest by size
    and SHA-256, the store is opened and checked, and only then is the whole renamed into place: after a crash
    there is the whole or nothing.

    Raises FailedPrecondition when the directory is not empty or the backup is of a newer embedcore, DataLoss
    when the backup is incomplete or damaged, Unavailable when something cannot be read or written.
    """
    folder = BackupFolder(source)
    _check_target(data_dir)
    manifest = _manifest(folder)
    target = data_dir.absolute()
    staging = target.parent / f".{target.name}.restoring-{os.getpid()}"
    total = sum(entry.bytes for entry in _entries(manifest))
    done = 0
    try:
        staging.mkdir(parents=True)
        for entry in _entries(manifest):
            before = done
            path = staging / entry.name

            def report(size: int, name: str = entry.name, before: int = before) -> None:
                if progress is not None:
                    progress(f"fetching {name}", before + size, total)

            found = folder.fetch(entry.name, path, report)
            if found != entry:
                raise DataLoss(
                    f"{source}: {entry.name} has {found.bytes} bytes with SHA-256 {found.sha256[:12]}..., the"
                    f" manifest says {entry.bytes} and {entry.sha256[:12]}...: use another backup"
                )
            done += entry.bytes
        _check_store(staging / DATABASE_FILE, manifest, source)
        _sync_tree(staging)
        os.rename(staging, target)
        sync_directory(target.parent)
    except OSError as error:
        raise Unavailable(
            f"{data_dir} cannot be written ({error.strerror or error}): check path, rights and room"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def _manifest(folder: BackupFolder) -> dict[str, Any]:
    data = folder.read(MANIFEST)
    if data is None:
        raise DataLoss(f"{folder.url} has no {MANIFEST}: it is no backup, or one that was never finished")
    try:
        manifest = json.loads(data)
        sound = isinstance(manifest, dict) and manifest["digest"] == digest_of(manifest)
    except (ValueError, KeyError):
        sound = False
    if not sound:
        raise DataLoss(f"{folder.url}: {MANIFEST} is damaged: use another backup")
    if manifest["format"] != FORMAT or manifest["schema_version"] > schema.SCHEMA_VERSION:
        raise FailedPrecondition(
            f"{folder.url} is of format {manifest['format']}, schema version {manifest['schema_version']};"
            f" this embedcore knows {FORMAT}, up to {schema.SCHEMA_VERSION}: restore it with a newer one"
        )
    entries = _entries(manifest)
    if DATABASE_FILE not in {entry.name for entry in entries}:
        raise DataLoss(f"{folder.url}: the manifest names no {DATABASE_FILE}: use another backup")
    if strange := [entry.name for entry in entries if not _NAME.fullmatch(entry.name)]:
        raise InvalidArgument(f"{folder.url}: {strange[0]!r} is no file of a backup: nothing was restored")
    return dict(manifest)


def _entries(manifest: dict[str, Any]) -> list[FileEntry]:
    return [FileEntry(str(one["name"]), int(one["bytes"]), str(one["sha256"])) for one in manifest["files"]]


def _check_target(data_dir: Path) -> None:
    try:
        found = [path.name for path in data_dir.iterdir()]
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise FailedPrecondition(f"{data_dir} is a file: restore into a new directory") from error
    if found:
        raise FailedPrecondition(
            f"{data_dir} is not empty ({', '.join(sorted(found)[:3])}): restore into a new directory"
        )


def _check_store(path: Path, manifest: dict[str, Any], source: str) -> None:
    """The store opens and holds what the manifest says, problems included: those were there before."""
    if manifest["schema_version"] != schema.SCHEMA_VERSION:
        return  # of an older schema: its files are what was copied, and opening it brings it up to date
    found = describe(path)
    different = [key for key, value in found.items() if manifest.get(key) != value]
    if different:
        raise DataLoss(
            f"{source}: the store differs from its manifest in {', '.join(different)}: use another backup"
        )


def _sync_tree(folder: Path) -> None:
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_directory(path)
