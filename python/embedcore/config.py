"""The TOML configuration file: defaults for every option of the command line, unknown keys refused.

Top-level keys are options that every command takes (``data``, ``server``, ...); a table holds the options
of one command, nested as the commands are::

    data = "/srv/embedcore"

    [serve]
    listen = "127.0.0.1:7600"

    [migrate.start]
    policy = "non-inferior"

Order of precedence: command line, environment, file, built-in default. This module knows nothing of the
command line's library: it is given the tree of commands and returns plain dictionaries.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from embedcore.errors import InvalidArgument

CONFIG_VARIABLE: Final = "EMBEDCORE_CONFIG"
DATA_VARIABLE: Final = "EMBEDCORE_DATA"
SERVER_VARIABLE: Final = "EMBEDCORE_SERVER"


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """One command: key in the file -> name of its parameter, and its subcommands by name."""

    options: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, CommandOptions] = field(default_factory=dict)


def load_config(path: Path) -> dict[str, Any]:
    """The file as a dictionary; InvalidArgument when it cannot be read or is not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InvalidArgument(
            f"configuration file {path}: {error.strerror}; name another with --config or {CONFIG_VARIABLE}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"configuration file {path} is not valid TOML: {error}") from error


def default_map(
    config: Mapping[str, Any], tree: CommandOptions, common: frozenset[str], source: str
) -> dict[str, Any]:
    """Nested defaults by parameter name, shaped like the tree of commands.

    ``common``: keys that may stand at the top level for every command that has them. InvalidArgument names
    each unknown key, with the closest known one.
    """
    problems: list[str] = []
    shared: dict[str, Any] = {}
    for key, value in config.items():
        name = _spelled(key)
        if isinstance(value, dict):
            if key not in tree.commands:
                problems.append(_unknown("table", key, tree.commands))
        elif name in common:
            shared[name] = value
        else:
            problems.append(_unknown("key", key, common))
    defaults = {
        name: _defaults(command, config.get(name, {}), shared, name, problems)
        for name, command in tree.commands.items()
    }
    if problems:
        raise InvalidArgument(f"configuration file {source}: {'; '.join(problems)}")
    return defaults


def _defaults(
    command: CommandOptions,
    table: Any,
    shared: Mapping[str, Any],
    path: str,
    problems: list[str],
) -> dict[str, Any]:
    if not isinstance(table, dict):
        problems.append(f"{path!r} is a command: write its options in a table [{path}]")
        return {}
    found: dict[str, Any] = {
        command.options[key]: value for key, value in shared.items() if key in command.options
    }
    for key, value in table.items():
        name = _spelled(key)
        if name in command.options and not isinstance(value, dict):
            found[command.options[name]] = value
        elif key not in command.commands:
            known = (*command.options, *command.commands)
            problems.append(_unknown("key", f"{path}.{key}", known, prefix=f"{path}."))
    for name, inner in command.commands.items():
        found[name] = _defaults(inner, table.get(name, {}), shared, f"{path}.{name}", problems)
    return found


def _spelled(key: str) -> str:
    return key.replace("_", "-")


def _unknown(kind: str, key: str, known: Iterable[str], prefix: str = "") -> str:
    names = sorted(known)
    bare = _spelled(key.removeprefix(prefix))
    near = get_close_matches(bare, names, n=1)
    advice = f"did you mean {prefix + near[0]!r}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {key!r} ({advice})"
