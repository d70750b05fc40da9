"""What a wheel must do and hold. `make wheel` installs one into an empty environment and runs this there.

Run by that environment's own ``python -I`` from any folder outside the checkout: the checkout is read as
the list of what has to be in, and must not be importable. The first thing amiss ends it with a traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PREFIX = Path(sys.prefix).resolve()
# Of the folder python/embedcore, what stays out of a wheel; the module is built, not copied.
LEFT_OUT = (".proto", ".pyc", ".so", "CONTRIBUTING.md")


def of_the_checkout(path: str | Path) -> bool:
    """In the source tree; the environment itself may lie below it and is not meant."""
    resolved = Path(path).resolve()
    return resolved.is_relative_to(SOURCE) and not resolved.is_relative_to(PREFIX)


def check_isolation() -> None:
    assert sys.prefix != sys.base_prefix, "run this with the Python of a virtual environment"
    assert sys.flags.isolated, "run this with python -I"
    stray = [entry for entry in sys.path if of_the_checkout(entry)]
    assert not stray, f"the source checkout is importable: sys.path has {stray}"


def check_no_module_of_the_checkout() -> None:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    stray = {name: file for name, file in files.items() if file and of_the_checkout(file)}
    stray.pop("__main__", None)
    assert not stray, f"modules come from the source checkout: {stray}"


def expected_files() -> dict[str, Path]:
    """Installed name -> file of the checkout, by the links that lay embedcore.server under the package."""
    root = SOURCE / "python"
    files = (Path(folder, name) for folder, _, names in os.walk(root, followlinks=True) for name in names)
    return {path.relative_to(root).as_posix(): path for path in files if not path.name.endswith(LEFT_OUT)}


def check_contents() -> int:
    """The files of the package and no others, unchanged; one native module; licences; a manylinux tag."""
    wheel = importlib.metadata.distribution("embedcore")
    listed = {path.as_posix(): Path(str(wheel.locate_file(path))) for path in wheel.files or []}
    installed = {name: path for name, path in listed.items() if not name.endswith(".pyc")}
    info = f"embedcore-{wheel.version}.dist-info/"
    native = {name for name in installed if name.startswith("embedcore/_native.") and name.endswith(".so")}
    assert len(native) == 1, f"expected one native module, found {sorted(native)}"
    expected = expected_files()
    own = {
        name
        for name in installed.keys() - native
        if not name.startswith(info) and not name.endswith("/bin/embedcore")
    }
    assert own == expected.keys(), (
        f"not in the wheel: {sorted(expected.keys() - own)}; too much in it: {sorted(own - expected.keys())}"
    )
    changed = [name for name in own if installed[name].read_bytes() != expected[name].read_bytes()]
    assert not changed, f"differ from the checkout (built from other sources?): {changed}"
    for name in ("py.typed", "_native.pyi", "datasets/data/wordnet.jsonl.xz"):
        assert f"embedcore/{name}" in own, f"{name} is missing from the wheel and the checkout"
    licences = {Path(name).name for name in installed if name.startswith(f"{info}licenses/")}
    assert licences == {"LICENSE", "WORDNET-LICENSE.txt"}, f"licences are {sorted(licences)}"
    tags = [line for line in (wheel.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    assert tags, "the wheel has no tag"
    assert all("-manylinux_" in tag for tag in tags), f"not repaired for manylinux: {tags}"
    return len(own) + 1


def check_modules() -> None:
    """Everything imports with the dependencies of the bare package: what is optional is imported late."""
    import embedcore

    for module in pkgutil.walk_packages(embedcore.__path__, "embedcore."):
        if module.name != "embedcore.__main__":
            importlib.import_module(module.name)
    protos = sorted((SOURCE / "server" / "proto" / "embedcore" / "v1").glob("*.proto"))
    assert protos, "the checkout has no protos"
    for proto in protos:
        generated = importlib.import_module(f"embedcore.v1.{proto.stem}_pb2")
        assert generated.DESCRIPTOR.name == f"embedcore/v1/{proto.name}"
        assert f"embedcore.v1.{proto.stem}_pb2_grpc" in sys.modules, f"{proto.name} has no service module"


def check_build_info() -> str:
    import embedcore

    info = embedcore.build_info()
    assert info["version"] == importlib.metadata.version("embedcore") == embedcore.__version__, info
    assert info["isa"] in info["isa_compiled"], info
    if platform.machine() == "x86_64":
        assert "avx2" in info["isa_compiled"], f"built without the wide kernels: {info}"
    return str(info["isa"])


def check_index() -> float:
    """Add, search, save and load, against brute force. Returns the recall at 10."""
    import numpy as np

    import embedcore

    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(3000, 32)).astype(np.float32)
    queries = rng.normal(size=(100, 32)).astype(np.float32)
    index = embedcore.Index(32, "cosine", seed=7)
    index.add(np.arange(len(vectors)), vectors)
    found = index.search(queries, k=10, ef_search=100)
    truth = embedcore.exact_search(vectors, queries, 10, "cosine")
    hits = sum(len({*a} & {*b}) for a, b in zip(found.ids.tolist(), truth.ids.tolist(), strict=True))
    recall = hits / truth.ids.size
    assert recall >= 0.95, f"recall at 10 is {recall:.3f}, expected 0.95 or more"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.ecx"
        index.save(path)
        loaded = embedcore.Index.load(path)
    assert loaded.check() == []
    again = loaded.search(queries, k=10, ef_search=100)
    np.testing.assert_array_equal(again.ids, found.ids)
    np.testing.assert_array_equal(again.distances, found.distances)
    return recall


def check_corpus() -> None:
    from embedcore.datasets import wordnet

    corpus = wordnet.load()  # checks its own sha256
    assert len(corpus) == 117_659, f"the corpus has {len(corpus)} entries"


def check_command_line() -> None:
    command = Path(sysconfig.get_path("scripts")) / "embedcore"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"embedcore --help ended with {done.returncode}: {done.stderr}"
    assert "Usage: embedcore" in done.stdout, done.stdout


def main() -> None:
    check_isolation()
    files = check_contents()
    check_modules()
    isa = check_build_info()
    recall = check_index()
    check_corpus()
    check_command_line()
    check_no_module_of_the_checkout()
    print(f"wheel: {files} files as expected, kernels {isa}, recall at 10 {recall:.3f}, command line answers")


if __name__ == "__main__":
    main()
