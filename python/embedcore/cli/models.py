"""``embedcore models``: the models that generations can be built with."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli import parse
from embedcore.cli.context import Session, command
from embedcore.errors import InvalidArgument, NotFound
from embedcore.types import ModelSpec


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Embedding models and the generations built from them.", no_args_is_help=True)
    command(group, "list")(list_models)
    command(group, "register")(register_model)
    app.add_typer(group, name="models")


def builtin(name: str) -> ModelSpec:
    """The specification of a built-in model; NotFound names those there are."""
    from embedcore.encoders import builtin_models

    known = builtin_models()
    if name not in known:
        raise NotFound(f"there is no built-in model {name!r}; there are: {', '.join(known)}")
    return known[name]


def list_models(session: Session) -> None:
    """Registered models with their generations, then the built-in ones that can be registered."""
    from embedcore.encoders import builtin_models

    with session.platform() as platform:
        registered = platform.models()
        generations = platform.generations()
    rows = []
    for spec in registered:
        built = [g for g in generations if g.generation.model == spec.name]
        states = ", ".join(f"{g.generation.number} {g.generation.state} ({g.items} items)" for g in built)
        rows.append((spec.name, spec.backend, spec.fingerprint.dimension, spec.fingerprint.digest, states))
    names = {spec.name for spec in registered}
    available = [spec for name, spec in builtin_models().items() if name not in names]
    rows += [
        (spec.name, spec.backend, spec.fingerprint.dimension, spec.fingerprint.digest, "not registered")
        for spec in available
    ]
    data = {"registered": registered, "generations": generations, "available": available}
    session.out.table(("model", "backend", "dim", "fingerprint", "generations"), rows, data=data)


def register_model(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="A built-in model.")] = None,
    spec: Annotated[
        str | None, typer.Option("--spec", help="JSON, or a JSON file, of a model specification.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--callable", help="package.module:function, with --fingerprint.")
    ] = None,
    fingerprint: Annotated[str | None, typer.Option("--fingerprint", help="JSON or a JSON file.")] = None,
) -> None:
    """Register a built-in model, a Python callable, or any specification."""
    if spec is not None and (name or target or fingerprint):
        raise InvalidArgument("--spec says everything; leave out the name, --callable and --fingerprint")
    if spec is not None:
        found = parse.document(ModelSpec, parse.json_value(spec, "--spec"), "--spec")
    elif target is not None:
        if name is None or fingerprint is None:
            raise InvalidArgument("a callable needs a name and a --fingerprint")
        value = {
            "name": name,
            "backend": "callable",
            "fingerprint": parse.json_value(fingerprint, "--fingerprint"),
            "options": {"target": target},
        }
        found = parse.document(ModelSpec, value, f"model {name!r}")
    elif name is not None:
        found = builtin(name)
    else:
        raise InvalidArgument("which model? give a built-in name, --spec, or a name with --callable")
    with session.platform() as platform:
        saved = platform.register_model(found)
    session.out.result(saved, f"model {saved.name} registered, fingerprint {saved.fingerprint.digest}")
