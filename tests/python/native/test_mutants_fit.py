"""The faults of ``make mutants``, which takes long, can still be planted where they are said to lie."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def run() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "mutants")
        patch.delenv("EMBEDCORE_MUTANT", raising=False)
        return importlib.import_module("run")


def test_every_text_to_be_replaced_is_there_once(run: Any) -> None:
    for fault in run.FAULTS:
        source = (ROOT / "python" / (fault.module.replace(".", "/") + ".py")).read_text()
        assert source.count(fault.old) == 1, fault.name
        changed = source.replace(fault.old, fault.new)
        assert changed != source, fault.name
        compile(changed, fault.module, "exec")
        file, _, name = fault.test.partition("::")
        assert f"def {name or 'test'}" in (ROOT / file).read_text(), fault.name


def test_the_native_mutants_are_those_that_the_sources_ask_for(run: Any) -> None:
    sources = [*ROOT.glob("cpp/**/*.h"), *ROOT.glob("cpp/**/*.cpp")]
    asked = {
        name
        for source in sources
        if source.name != "mutant.h"
        for name in re.findall(r'mutant\("(\w+)"\)', source.read_text())
    }
    assert {mutant.name for mutant in run.MUTANTS} == asked
    for mutant in run.MUTANTS:
        folder = ROOT / "tests/cpp" / mutant.program.removeprefix("test_")
        tests = "".join(path.read_text() for path in folder.glob("test_*.cpp"))
        assert (ROOT / mutant.source).exists(), mutant.name
        assert re.search(rf"TEST\(\w*{mutant.test}\w*\)", tests), mutant.name
