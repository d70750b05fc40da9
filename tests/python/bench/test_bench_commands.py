"""What surrounds the harness: the command line, files of ann-benchmarks, the adapter for it, the micro
benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.__main__ import app
from bench.ann_benchmarks.module import Embedcore
from typer.main import get_command
from typer.testing import CliRunner

import embedcore
from bench import datasets

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_the_commands_are_known() -> None:
    named = {"ann", "compare", "scale", "churn", "dualwrite", "overhead", "recovery", "truth", "evaluation"}
    assert set(COMMANDS) == named
    listed = CliRunner().invoke(app, ["--help"])
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in named)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: root {name}" in shown.stdout
    assert "--out" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ann", "--data", "nosuch"], 2, "no data is called 'nosuch'"),
        (["ann", "--data", "hdf5:/nowhere.hdf5"], 2, "/nowhere.hdf5"),
        (["ann", "--data", "wordnet", "--peers", "nosuch"], 2, "no engine is called nosuch"),
        (["ann", "--data", "wordnet", "--k", "0"], 2, "k must be 1 to 100"),
        (["ann", "--data", "wordnet", "--levels", "1.5"], 2, "levels of recall"),
        (["ann", "--data", "wordnet", "--dim", "7"], 2, "wordnet has 384 dimensions, not 7"),
        (["compare", "no-such-commit", "HEAD"], 1, "no-such-commit"),
        (["scale", "--data", "wordnet"], 2, "scale makes its data"),
        (["churn", "--parts", "nosuch"], 2, "nosuch"),
        (["truth", "--peers", "nosuch"], 2, "nosuch"),
        (["recovery", "--snapshot", "/nowhere.ecx"], 2, "nowhere.ecx"),
        (["evaluation", "--vectors", "/nowhere"], 2, "/nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    arguments: list[str], code: int, message: str
) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code
    assert isinstance(done.exception, SystemExit)
    assert message in done.output


def _hdf5(path: Path, **attributes: str) -> Any:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(130)
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        file["train"] = rng.standard_normal((400, 12)).astype(np.float32)
        file["test"] = rng.standard_normal((30, 12)).astype(np.float32)
        return file["train"][:], file["test"][:]


@pytest.mark.parametrize(("distance", "metric"), [("angular", "cosine"), ("euclidean", "l2"), ("dot", "ip")])
def test_a_file_of_ann_benchmarks_is_read(tmp_path: Path, distance: str, metric: Any) -> None:
    base, _ = _hdf5(tmp_path / "tiny.hdf5", distance=distance)
    wanted = datasets.Wanted(f"hdf5:{tmp_path / 'tiny.hdf5'}", depth=10)
    data = datasets.load(wanted, tmp_path / "cache")
    assert (data.name, data.metric, data.n, data.dim, len(data.queries)) == ("tiny", metric, 400, 12, 30)
    truth = embedcore.exact_search(base, data.queries, 10, metric).ids
    assert (data.truth == truth).mean() > 0.99
    again = datasets.load(wanted, tmp_path / "cache")
    np.testing.assert_array_equal(again.truth, data.truth)
    assert again.folder == data.folder


def test_a_file_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    _hdf5(tmp_path / "sets.hdf5", distance="jaccard")
    (tmp_path / "text.hdf5").write_text("no such format")
    for name, message in (("sets", "has distance 'jaccard'"), ("text", "is no ann-benchmarks file")):
        with pytest.raises(datasets.DataError, match=message):
            datasets.load(datasets.Wanted(f"hdf5:{tmp_path / name}.hdf5"), tmp_path / "cache")


@pytest.mark.parametrize("distance", ["angular", "euclidean"])
@pytest.mark.parametrize(
    "options", [{"m": 16, "ef_construction": 200}, {"codes": "none"}, {"dtype": "float16"}]
)
def test_the_adapter_answers_as_ann_benchmarks_asks(distance: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(131)
    base = rng.standard_normal((500, 16)).astype(np.float32)
    queries = rng.standard_normal((40, 16)).astype(np.float32)
    algorithm = Embedcore(distance, options)
    assert algorithm.get_memory_usage() == 0
    algorithm.fit(base)
    algorithm.set_query_arguments(300)
    metric: Any = {"angular": "cosine", "euclidean": "l2"}[distance]
    truth = embedcore.exact_search(base, queries, 10, metric).ids
    answers = np.array([algorithm.query(query, 10) for query in queries])
    assert (np.sort(answers) == np.sort(truth)).mean() > 0.98
    algorithm.batch_query(queries, 10)
    np.testing.assert_array_equal(algorithm.get_batch_results(), answers)
    assert algorithm.get_memory_usage() > 500 * 16 * 2 / 1024
    assert str(algorithm).endswith("ef=300)")


def test_the_adapters_configuration_names_what_there_is() -> None:
    yaml = pytest.importorskip("yaml")
    (entry,) = yaml.safe_load((ROOT / "bench/ann_benchmarks/config.yml").read_text())["float"]["any"]
    assert entry["constructor"] == Embedcore.__name__
    for group in entry["run_groups"].values():
        (options,) = group["args"]
        embedcore.Index(8, **options)
        (breadths,) = group["query_args"]
        assert breadths == sorted(set(breadths))


def test_the_micro_benchmarks_run() -> None:
    """Each once, untimed, on the smallest data."""
    pytest.importorskip("pytest_benchmark")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "bench/micro", "-q", "--benchmark-disable", "-p", "no:cacheprovider",
         "-k", "128"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=False,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout
