"""The command line: ``python -m bench --help`` names its benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from bench import (
    ann,
    churn,
    compare,
    datasets,
    dualwrite,
    durable,
    engines,
    evaluation,
    overhead,
    recovery,
    recovery_platform,
    scale,
    synthetic,
)
from bench.checkouts import CheckoutError
from bench.native_build import BuildError

app = typer.Typer(
    help="embedcore measured side by side with its peers, in one run on one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# What several benchmarks are asked in the same words.
Data = Annotated[str, typer.Option(help="wordnet, clustered, blobs or random.")]
Items = Annotated[int | None, typer.Option(min=10, help="Items; a random subset of a real corpus.")]
Dim = Annotated[int | None, typer.Option(min=2, help="Dimensions of synthetic data.")]
Vectors = Annotated[
    Path | None,
    typer.Option(
        envvar=datasets.VECTORS_VARIABLE,
        help=f"Folder of {datasets.BASE_FILE} and {datasets.QUERY_FILE}.",
    ),
]


@app.command("ann")
def ann_command(
    data: Annotated[
        str, typer.Option(help="wordnet, clustered, blobs, random, or hdf5:PATH (ann-benchmarks).")
    ],
    peers: Annotated[
        str | None,
        typer.Option(help=f"Engines, comma-separated; all by default: {', '.join(engines.DEFAULT)}."),
    ] = None,
    k: Annotated[str, typer.Option(help="Neighbours asked for, comma-separated.")] = "10",
    levels: Annotated[str, typer.Option(help="Levels of recall, comma-separated.")] = "0.90,0.95,0.99",
    n: Items = None,
    dim: Dim = None,
    metric: Annotated[
        str | None, typer.Option(help="cosine, l2 or ip, where not as the data has it.")
    ] = None,
    queries: Annotated[int | None, typer.Option(min=2, help="Queries, both halves together.")] = None,
    vectors: Vectors = None,
    encode: Annotated[
        bool, typer.Option(help="Compute the WordNet vectors (needs embedcore[demo]).")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Timed passes of every engine and level.")] = 5,
    pass_seconds: Annotated[float, typer.Option(min=0.01, help="CPU seconds of a timed pass.")] = 0.5,
    m: Annotated[int, typer.Option(min=2, help="Links per node of every engine.")] = 16,
    ef_construction: Annotated[int, typer.Option(min=1, help="Of every engine.")] = 200,
    most_ef: Annotated[int, typer.Option(min=1, help="Where the search for an ef gives up.")] = 2048,
    curve: Annotated[bool, typer.Option(help="Also a grid of ef, for the plot.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/DATA-DATE.")] = None,
) -> None:
    """Recall against rate, build cost and memory of every installed engine."""
    console = _console()
    try:
        ann.run(
            datasets.Wanted(data, n, dim, _metric(metric), queries, vectors, encode),
            ann.plan_of(
                _words(peers),
                [int(word) for word in k.split(",")],
                [float(word) for word in levels.split(",")],
                rounds=rounds,
                pass_s=pass_seconds,
                m=m,
                ef_construction=ef_construction,
                most_ef=most_ef,
                curve=curve,
            ),
            console,
            out,
        )
    except (datasets.DataError, ValueError) as error:
        _fail(console, error, 2)


@app.command("compare")
def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="A commit, branch or tag: the one before.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The one after.")],
    command: Annotated[
        str | None,
        typer.Option(help="Timed in place of bench/workload.py; {python} is the side's interpreter."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Runs of each side, alternating A B B A.")] = 12,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
) -> None:
    """Builds two commits and says which is faster, with a confidence interval."""
    console = _console()
    try:
        compare.run(first, second, command, pairs, console, out)
    except CheckoutError as error:
        _fail(console, error, 1)


@app.command("scale")
def scale_command(
    sizes: Annotated[str, typer.Option(help="Items, comma-separated.")] = "10000,31623,100000,316228,1000000",
    peers: Annotated[str, typer.Option(help="Engines, comma-separated.")] = "embedcore,hnswlib",
    data: Annotated[str, typer.Option(help="clustered, blobs or random.")] = "clustered",
    dim: Annotated[int, typer.Option(min=2, help="Dimensions.")] = 128,
    metric: Annotated[str, typer.Option(help="cosine, l2 or ip.")] = "l2",
    level: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of recall@10.")] = 0.95,
    queries: Annotated[int, typer.Option(min=2, help="Queries, both halves together.")] = 2_000,
    rounds: Annotated[int, typer.Option(min=1, help="Timed passes of every engine and size.")] = 5,
    pass_seconds: Annotated[float, typer.Option(min=0.01, help="CPU seconds of a timed pass.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/scale-DATE.")] = None,
) -> None:
    """The rate at one level of recall from ten thousand to a million items, and its slope."""
    console = _console()
    try:
        if data not in synthetic.MAKERS:
            raise ValueError(f"scale makes its data: {', '.join(synthetic.MAKERS)}, not {data}")
        wanted = datasets.Wanted(data, None, dim, _metric(metric), queries)
        plan = ann.plan_of(
            _words(peers), [10], [level], rounds=rounds, pass_s=pass_seconds, curve=False, yardstick=False
        )
        scale.run([int(word) for word in sizes.split(",")], plan, wanted, console, out)
    except (datasets.DataError, ValueError) as error:
        _fail(console, error, 2)


@app.command("overhead")
def overhead_command(
    dims: Annotated[str, typer.Option(help="Dimensions, comma-separated.")] = "128,384,768",
    calls: Annotated[int, typer.Option(min=64, help="Of each kind in a round.")] = 5_000,
    rounds: Annotated[int, typer.Option(min=1, help="After one to warm up.")] = 7,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/overhead-DATE.")] = None,
) -> None:
    """What one call from Python costs beside the search in it."""
    overhead.run([int(word) for word in dims.split(",")], calls, rounds, _console(), out)


@app.command("churn")
def churn_command(
    data: Data = "wordnet",
    parts: Annotated[str, typer.Option(help="What to measure, comma-separated.")] = ",".join(churn.PARTS),
    n: Annotated[int | None, typer.Option(min=1000, help="Items; a random subset of a real corpus.")] = None,
    dim: Dim = None,
    vectors: Vectors = None,
    ef: Annotated[int, typer.Option(min=1, help="Breadth of every search.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Of each timed case.")] = 7,
    turnovers: Annotated[int, typer.Option(min=1, help="How often the whole corpus is turned over.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/churn-DATE.")] = None,
) -> None:
    """An index that is written, deleted from and compacted, against a fresh one."""
    console = _console()
    chosen = _words(parts) or []
    if unknown := set(chosen) - set(churn.PARTS):
        raise typer.BadParameter(f"no part is called {sorted(unknown)}; use {', '.join(churn.PARTS)}")
    try:
        wanted = datasets.Wanted(data, n, dim, None, 1000, vectors, depth=10)
        churn.run(wanted, chosen, ef, rounds, turnovers, console, out)
    except BuildError as error:
        _fail(console, error, 1)
    except (datasets.DataError, ValueError) as error:
        _fail(console, error, 2)


@app.command("dualwrite")
def dualwrite_command(
    data: Data = "wordnet",
    n: Items = None,
    dim: Dim = None,
    vectors: Vectors = None,
    operations: Annotated[int, typer.Option(min=64, help="Empty operations of a round.")] = 4_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of each case.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Items of one upsert.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/dualwrite-DATE.")] = None,
) -> None:
    """Empty operations through the write stream, and a dual write against two adds."""
    console = _console()
    try:
        wanted = datasets.Wanted(data, n, dim, None, 100, vectors, depth=10)
        dualwrite.run(wanted, operations, rounds, batch, console, out)
    except BuildError as error:
        _fail(console, error, 1)
    except (datasets.DataError, ValueError) as error:
        _fail(console, error, 2)


@app.command("recovery")
def recovery_command(
    data: Data = "clustered",
    n: Items = 100_000,
    dim: Dim = 384,
    vectors: Vectors = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of each case.")] = 3,
    dtype: Annotated[str, typer.Option(help="Of the index that is saved and loaded.")] = "float32",
    preset: Annotated[str | None, typer.Option(help="fast: a cheaper build of it.")] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A snapshot made before, to be loaded in place of one made now."
        ),
    ] = None,
    replay: Annotated[bool, typer.Option(help="Also fill a store and replay its log.")] = True,
    platform: Annotated[bool, typer.Option(help="A whole server, killed and started again.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="With --platform: writes after the snapshot.")] = 10_000,
    rebuild: Annotated[
        bool, typer.Option(help="With --platform: also without any snapshot, from the stored vectors.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/recovery-DATE.")] = None,
) -> None:
    """Saving, loading and replaying: how soon an index is back."""
    console = _console()
    try:
        wanted = datasets.Wanted(data, n, dim, None, 100, vectors, depth=10)
        if platform:
            ways = tuple(way for way in recovery_platform.WAYS if rebuild or way != "stored vectors")
            plan = recovery_platform.Plan(tail, preset, rounds, ways)
            recovery_platform.run(wanted, plan, console, out)
            return
        recovery.run(
            wanted, rounds, console, out, snapshot=snapshot, dtype=dtype, preset=preset, replay=replay
        )
    except (datasets.DataError, ValueError) as error:
        _fail(console, error, 2)


@app.command("truth")
def truth_command(
    data: Data = "wordnet",
    n: Annotated[int | None, typer.Option(min=1000, help="Items of the share; a random subset.")] = 20_000,
    dim: Dim = None,
    vectors: Vectors = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="Of each rate and round.")] = 2.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of each case.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Where the databases lie; by default the temporary folder.")
    ] = None,
    peers: Annotated[str, typer.Option(help="Other stores, comma-separated.")] = ",".join(durable.PEERS),
    peers_python: Annotated[
        Path | None, typer.Option(help="The interpreter of an environment that has them installed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default bench/results/truth-DATE.")] = None,
) -> None:
    """Acknowledged writes a second, and the store's share of a dual-write."""
    console = _console()
    chosen = _words(peers) or []
    if unknown := set(chosen) - set(durable.PEERS):
        raise typer.BadParameter(f"no store is called {sorted(unknown)}; use {', '.join(durable.PEERS)}")
    try:
        wanted = datasets.Wanted(data, n, dim, None, 100, vectors, depth=10)
        durable.run(wanted, seconds, rounds, folder, chosen, peers_python, console, out)
    except datasets.DataError as error:
        _fail(console, error, 2)


@app.command("evaluation")
def evaluation_command(
    vectors: Annotated[
        Path | None,
        typer.Option(envvar=datasets.VECTORS_VARIABLE, help=f"Folder of {datasets.BASE_FILE}."),
    ] = None,
    second: Annotated[
        Path | None,
        typer.Option(help="minilm-l3's vectors of the corpus (.npy); by default the first with noise."),
    ] = None,
    queries: Annotated[int, typer.Option(min=30, help="Golden queries per consumer.")] = 4_000,
    items: Annotated[int | None, typer.Option(min=1000, help="The first so many synsets.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default bench/results/evaluation-DATE.")
    ] = None,
) -> None:
    """Comparing two generations on four golden sets, and the report, once vectors exist."""
    console = _console()
    try:
        evaluation.run(vectors, second, queries, items, console, out)
    except datasets.DataError as error:
        _fail(console, error, 2)


def _fail(console: Console, error: Exception, code: int) -> NoReturn:
    console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
    sys.exit(code)


def _console() -> Console:
    """Wide enough for the tables where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _metric(name: str | None) -> str | None:
    if name not in (None, "cosine", "l2", "ip"):
        raise typer.BadParameter("use cosine, l2 or ip", param_hint="--metric")
    return name


if __name__ == "__main__":
    app()
