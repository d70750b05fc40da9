"""The entry point: puts the groups of commands together and turns usage errors into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from embedcore.cli import (
    backfill,
    backup,
    consumers,
    demo,
    doctor,
    evaluate,
    ingest,
    migrate,
    models,
    search,
    serve,
    snapshot,
)
from embedcore.cli.context import UsageError
from embedcore.cli.output import one_line

_INTERRUPTED = 130  # as shells say it; typer turns Ctrl-C into it by itself

app = typer.Typer(
    name="embedcore",
    help="An embeddings platform for the day the embedding model changes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(shown: bool) -> None:
    if shown:
        import embedcore

        print(embedcore.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    pass


for group in (
    serve,
    demo,
    ingest,
    search,
    consumers,
    models,
    evaluate,
    migrate,
    backfill,
    snapshot,
    backup,
    doctor,
):
    group.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; see :mod:`embedcore.cli.context`."""
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="embedcore")
    except UsageError as error:
        return _usage(error)
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; keep the interpreter from complaining while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if code == _INTERRUPTED:
        print("embedcore: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "embedcore"
    text = one_line(error.format_message()) if hasattr(error, "format_message") else one_line(str(error))
    if type(error).__name__ == "NoArgsIsHelpError":
        print(text if context is None else context.get_help())
        return 2
    print(f"{path}: {text.rstrip('.')}; see {path} --help", file=sys.stderr)
    return 2


def run() -> None:
    """The console script."""
    sys.exit(main())
