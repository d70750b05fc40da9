"""The native module runs on every x86-64: wide instructions stay in the files that are entered after a check.

What is read is machine code. Each object of the build that made the imported module is disassembled, and then
the module itself, because the bindings are compiled only at link time and have no code before.
"""

from __future__ import annotations

import filecmp
import functools
import json
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedcore import _native

ROOT = Path(__file__).resolve().parents[3]
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 code"),
    pytest.mark.skipif(not (shutil.which("objdump") and shutil.which("nm")), reason="needs binutils"),
]

# VEX and EVEX encode AVX and later: mnemonics with v, k (on masks), and BMI (on general registers).
FUNCTION_OR_VEX = re.compile(
    r"^[0-9a-f]+ <(?P<function>.*)>:$"
    r"|^ *[0-9a-f]+:\t(?P<instruction>(?:\{\w+\} )?"
    r"(?:[vk][a-z]|(?:andn|bextr|bls(?:i|r|msk)|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx)\b).*)$",
    re.MULTILINE,
)
ANY = re.compile("")
NONE = re.compile("(?!)")
EVEX = re.compile(r"%zmm|%k[0-7]|%[xy]mm(?:1[6-9]|[23]\d)")
FORBIDDEN = {"kernels_avx512": NONE, "kernels_avx2": EVEX}  # of VEX and EVEX; everywhere else: ANY


@dataclass(frozen=True)
class Code:
    """Number of instructions; (function, instruction) of those with VEX or EVEX encoding, in AT&T syntax."""

    size: int
    wide: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Build:
    """The folder that the imported module was built in: the module, and what it was linked from."""

    module: Path
    objects: tuple[Path, ...]

    @property
    def wide(self) -> list[Path]:
        return [path for path in self.objects if is_wide(path)]

    @property
    def baseline(self) -> list[Path]:
        return [path for path in self.objects if not is_wide(path)]


@pytest.fixture(scope="module")
def build() -> Build:
    imported = Path(_native.__file__)
    candidates = [
        (built, commands)
        for commands in ROOT.glob("build/*/compile_commands.json")
        for built in commands.parent.rglob(imported.name)
    ]
    if not candidates:
        pytest.skip(f"{imported.name} was not built in {ROOT / 'build'}")
    for built, commands in candidates:
        if filecmp.cmp(built, imported, shallow=False):
            entries = json.loads(commands.read_text())
            return Build(built, tuple(Path(entry["directory"], entry["output"]) for entry in entries))
    pytest.fail(f"no folder of {ROOT / 'build'} holds the module that is imported; run make build")


def is_wide(path: Path) -> bool:
    return path.name.startswith(tuple(FORBIDDEN))


def tool(*command: str | Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@functools.cache
def code(path: Path) -> Code:
    """Nothing of an object that is compiled only at link time."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":  # bitcode of clang
            return Code(0, ())
    text = tool("objdump", "-d", "--no-show-raw-insn", path)
    function, wide = "", []
    for found in FUNCTION_OR_VEX.finditer(text):
        if found["instruction"]:
            wide.append((function, found["instruction"]))
        else:
            function = found["function"]
    return Code(text.count(":\t"), tuple(wide))


def too_wide(path: Path) -> list[str]:
    """Instructions that a file of this name must not have been compiled to."""
    forbidden = next((rule for name, rule in FORBIDDEN.items() if path.name.startswith(name)), ANY)
    return [f"{path.name}: {where}: {what}" for where, what in code(path).wide if forbidden.search(what)]


def excess(module: Path, wide: Iterable[Path]) -> Counter[str]:
    """Mnemonics of wide instructions that the module has more often than the wide objects together."""
    counts = [Counter(what.split()[0] for _, what in code(path).wide) for path in (module, *wide)]
    return counts[0] - sum(counts[1:], Counter[str]())


def shared(path: Path) -> list[str]:
    """Symbols of other objects' concern, except data named kernels_*.

    A function that has the same name elsewhere, as inline ones do, could be the one that all callers get.
    """
    symbols = (line.split(maxsplit=2) for line in tool("nm", "-C", "-g", "--defined-only", path).splitlines())
    return [
        f"{path.name}: {kind} {name}"
        for _, kind, name in symbols
        if kind not in "BDR" or not name.split("::")[-1].startswith("kernels_")
    ]


def runs_at_load(path: Path) -> list[str]:
    """Sections of static initialisers: they run at import, before any check."""
    return re.findall(r" (\.(?:preinit_array|init_array|ctors)\S*)", tool("objdump", "-h", path))


def test_objects_hold_only_the_instructions_of_their_set(build: Build) -> None:
    assert build.wide, "no object is compiled for a wide set"
    assert all(code(path).wide for path in build.wide), "the wide objects must hold code before linking"
    assert sum(code(path).size for path in build.baseline) > 10_000
    assert [line for path in build.objects for line in too_wide(path)] == []


def test_the_module_adds_no_wide_instruction_to_those_of_the_kernels(build: Build) -> None:
    assert code(build.module).wide
    assert excess(build.module, build.wide) == Counter()


def test_wide_objects_share_data_only(build: Build) -> None:
    assert [line for path in build.wide for line in shared(path)] == []


def test_wide_objects_have_no_static_initialisers(build: Build) -> None:
    assert [line for path in build.wide for line in runs_at_load(path)] == []


# That the checks fire: each reads an object made for it.

Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")

    def compile_(name: str, source: str, *flags: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))  # no file is ever another: code() remembers
        folder.mkdir()
        file = folder / name
        file.write_text(source)
        made = folder / f"{name}.o"
        tool(COMPILER, "-O2", "-Wno-psabi", *flags, "-c", file, "-o", made)
        return made

    return compile_


def addition(size: int) -> str:
    """A function over vectors of ``size`` bytes, which the flags turn into one instruction or several."""
    return (
        f"using V = float __attribute__((vector_size({size})));\n"
        "void planted(V* a, const V* b) { *a += *b; }\n"
    )


def test_avx_in_a_baseline_object_is_found(compiled: Compile) -> None:
    found = too_wide(compiled("search.cpp", addition(32), "-mavx2"))
    assert found
    assert all(line.startswith("search.cpp.o: _Z7planted") for line in found)
    assert any("%ymm" in line for line in found)
    assert too_wide(compiled("search.cpp", addition(16), "-mavx2")), "128 bits wide, yet encoded with VEX"
    assert too_wide(compiled("search.cpp", addition(32))) == []


def test_bmi_in_a_baseline_object_is_found(compiled: Compile) -> None:
    source = "unsigned long planted(unsigned long a, unsigned n) { return a << n; }\n"
    assert too_wide(compiled("search.cpp", source, "-mbmi2"))
    assert too_wide(compiled("search.cpp", source)) == []


def test_avx512_is_found_in_an_avx2_object_only(compiled: Compile) -> None:
    assert too_wide(compiled("kernels_avx2.cpp", addition(64), "-mavx512f"))
    assert too_wide(compiled("kernels_avx2.cpp", addition(64), "-mavx2")) == []
    assert too_wide(compiled("kernels_avx512.cpp", addition(64), "-mavx512f")) == []


def test_a_wide_instruction_more_than_the_kernels_have_is_found(compiled: Compile) -> None:
    kernel = compiled("kernels_avx2.cpp", addition(32), "-mavx2")
    module = compiled("module.cpp", addition(32) + addition(64).replace("V", "W"), "-mavx2")
    assert excess(kernel, [kernel]) == Counter()
    assert excess(module, [kernel])["vaddps"] == 2
    assert excess(compiled("module.cpp", addition(32)), [kernel]) == Counter()


def test_a_function_offered_by_a_wide_object_is_found(compiled: Compile) -> None:
    source = (
        "struct Set { int (*of)(int); };\n"
        "__attribute__((noinline)) inline int merged(int a) { return a * 3; }\n"
        "namespace { int own(int a) { return merged(a) + 1; } }\n"
        "extern const Set kernels_planted;\n"
        "const Set kernels_planted{own};\n"
    )
    assert shared(compiled("kernels_avx2.cpp", source)) == ["kernels_avx2.cpp.o: W merged(int)"]
    assert shared(compiled("kernels_avx2.cpp", source.replace("inline int", "static int"))) == []
    assert shared(compiled("kernels_avx2.cpp", addition(16)))


def test_a_static_initialiser_in_a_wide_object_is_found(compiled: Compile) -> None:
    assert runs_at_load(compiled("kernels_avx2.cpp", "int made();\nint kernels_planted = made();\n"))
    assert runs_at_load(compiled("kernels_avx2.cpp", "int kernels_planted = 3;\n")) == []
