"""What every command shares: common options, the platform it talks to, errors and exit codes.

Exit codes: 0 done, 1 the work failed or a gate said no, 2 bad usage. An error is one line on stderr that
says what came and what to do; a traceback is shown only with ``--debug``.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from embedcore.cli.output import Output, one_line
from embedcore.config import (
    CONFIG_VARIABLE,
    DATA_VARIABLE,
    SERVER_VARIABLE,
    CommandOptions,
    default_map,
    load_config,
)
from embedcore.errors import EmbedcoreError, FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

DEFAULT_DATA: Final = Path("embedcore-data")
# Keys that may stand at the top of the configuration file.
COMMON_KEYS: Final = frozenset({"data", "server", "token-file", "root-certificates", "json", "debug"})

# The base class of all usage errors; typer's public names hold only this child of it.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@dataclass(frozen=True)
class Session:
    """The common options of one invocation."""

    out: Output
    data: Path | None = None
    server: str | None = None
    token_file: Path | None = None
    root_certificates: Path | None = None
    debug: bool = False
    keep: bool = False  # leaves the snapshots of a directory that it opens as they are

    @property
    def data_dir(self) -> Path:
        return self.data if self.data is not None else DEFAULT_DATA

    @property
    def token(self) -> str | None:
        return None if self.token_file is None else read_text(self.token_file, "token file").strip()

    @contextmanager
    def platform(self, *, keep: bool = False) -> Iterator[PlatformApi]:
        """The platform: behind ``--server``, behind the server that owns the data directory, or the
        directory itself, opened in this process; ``keep``: without new snapshots at the end."""
        platform = open_platform(replace(self, keep=keep))
        try:
            yield platform
        finally:
            platform.close()


def read_text(path: Path, what: str) -> str:
    """UTF-8 text of a file; InvalidArgument when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{what} {path}: {getattr(error, 'strerror', None) or error}") from error


def open_platform(session: Session) -> PlatformApi:
    """See :meth:`Session.platform`. Never creates a data directory: that is what serve does."""
    from embedcore.store.ownership import read_owner

    if session.server:
        return _connect(session, session.server.removeprefix("grpc://"))
    owner = read_owner(session.data_dir)
    if owner is not None:
        if not owner.address:
            raise FailedPrecondition(
                f"data directory {session.data_dir} is in use by process {owner.pid}, which serves nobody"
                " (yet); try again, or end that process"
            )
        return _connect(session, owner.address, owner.stream_address or None)
    if not session.data_dir.exists():
        raise FailedPrecondition(
            f"there is no data directory {session.data_dir}; name one with --data or {DATA_VARIABLE}, create"
            " one with `embedcore serve --model NAME`, or reach a server with --server HOST:PORT"
        )
    # The native core is loaded here only: commands that go through a server start without it.
    from embedcore.platform import Platform
    from embedcore.serving.snapshots import SnapshotSettings

    settings = SnapshotSettings(interval_s=0, at_close=not session.keep)
    return Platform.open(session.data_dir, create=False, snapshots=settings)


def _connect(session: Session, address: str, stream_address: str | None = None) -> PlatformApi:
    from embedcore.remote import RemotePlatform

    return RemotePlatform(
        address,
        stream_address=stream_address,
        token=session.token,
        root_certificates=session.root_certificates,
    )


def whoami() -> str:
    """Who is recorded for a transition when ``--who`` is not given."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _configure(ctx: typer.Context, path: Path | None) -> Path | None:
    """Eager: sets this command's defaults from the configuration file before its options are read."""
    if path is None or ctx.resilient_parsing:
        return path
    names: list[str] = []
    here: Any = ctx
    while here.parent is not None:
        names.append(here.info_name)
        here = here.parent
    try:
        found: Any = default_map(load_config(path), _tree(here.command), COMMON_KEYS, str(path))
    except InvalidArgument as error:
        raise typer.BadParameter(error.message) from error
    for name in reversed(names):
        found = found.get(name, {})
    ctx.default_map = found
    return path


def _tree(command: Any) -> CommandOptions:
    """The options of a command and its subcommands, as the configuration file spells them."""
    return CommandOptions(
        options={
            option.removeprefix("--"): parameter.name
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--") and parameter.name not in ("help", "config")
        },
        commands={name: _tree(inner) for name, inner in getattr(command, "commands", {}).items()},
    )


_ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        is_eager=True,
        callback=_configure,
        help="TOML file with defaults for every option.",
    ),
]
_COMMON: Final[dict[str, tuple[Any, Any]]] = {
    "as_json": (Annotated[bool, typer.Option("--json", help="Print JSON for machines.")], False),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show tracebacks.")], False),
    "config": (_ConfigOption, None),
}
_TARGET: Final[dict[str, tuple[Any, Any]]] = {
    "data": (
        Annotated[
            Path | None,
            typer.Option("--data", envvar=DATA_VARIABLE, help=f"Data directory.  [default: {DEFAULT_DATA}]"),
        ],
        None,
    ),
    "server": (
        Annotated[
            str | None,
            typer.Option("--server", envvar=SERVER_VARIABLE, help="HOST:PORT of a running server."),
        ],
        None,
    ),
    "token_file": (
        Annotated[Path | None, typer.Option("--token-file", help="File with the server's bearer token.")],
        None,
    ),
    "root_certificates": (
        Annotated[Path | None, typer.Option("--root-certificates", help="PEM file: connect with TLS.")],
        None,
    ),
}

# Where an option's value came from, the closest to the user first.
_SOURCES: Final = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")

Function = Callable[..., None]


def command(
    app: typer.Typer, name: str, *, reaches: tuple[str, ...] = tuple(_TARGET)
) -> Callable[[Function], Function]:
    """Registers ``function(session, ...)`` as a command that also takes the common options.

    ``reaches``: which of the options that name a platform it has.
    """
    common = {key: _TARGET[key] for key in reaches} | _COMMON

    def register(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "session"]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for key, (annotation, default) in common.items()
        ]

        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            shared = {key: values.pop(key) for key in common}
            shared.pop("config")
            if "ctx" in values and _closer(values.pop("ctx"), "data", "server"):
                shared["server"] = None
            session = Session(out=Output(as_json=shared.pop("as_json")), **shared)
            guarded(session, functools.partial(function, session, **values))

        if "server" in common:
            context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
            parameters.append(context)
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name)(wrapper)
        return function

    return register


def _closer(ctx: typer.Context, one: str, other: str) -> bool:
    """Option ``one`` was given closer to the user: ``--data`` beats a server named in the environment."""
    ranks = [
        _SOURCES.index(getattr(ctx.get_parameter_source(name), "name", "DEFAULT")) for name in (one, other)
    ]
    return ranks[0] < ranks[1]


def guarded(session: Session, action: Callable[[], None]) -> None:
    """Runs a command; an error becomes one line and an exit code."""
    try:
        action()
    except EmbedcoreError as error:
        if session.debug:
            raise
        session.out.failure(error)
        raise typer.Exit(2 if isinstance(error, InvalidArgument) else 1) from error
    except (typer.Exit, typer.Abort, UsageError, BrokenPipeError):
        raise
    except Exception as error:  # the last line of defence: a bug must not look like a crash of the shell
        if session.debug:
            raise
        what = one_line(f"{type(error).__name__}: {error}")
        print(f"embedcore: unexpected {what} (run again with --debug to see where)", file=sys.stderr)
        raise typer.Exit(1) from error
