"""The registry: what is refused at registration, when models load, and what bulk work leaves alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from embedcore.encoders import (
    NEW,
    OLD,
    UNNORMALISED,
    EncoderRegistry,
    OnnxEncoder,
    builtin_models,
    registry,
)
from embedcore.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from embedcore.types import Fingerprint, ModelSpec, Vectors

from .conftest import FakeEncoder, fingerprint, unit_vectors

TARGET = f"{unit_vectors.__module__}:unit_vectors"


def spec(name: str = "fake", **changes: object) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": name, "backend": "callable", "fingerprint": fingerprint(), **changes}
    )


def test_a_function_of_this_process_is_used(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(), fake)
    np.testing.assert_array_equal(encoders.encode_queries("fake", ["a", "b"]), unit_vectors(["a", "b"]))
    np.testing.assert_array_equal(encoders.encode_bulk("fake", ["c"]), unit_vectors(["c"]))
    assert encoders.fingerprint("fake") == encoders.get("fake").fingerprint == fingerprint()
    assert encoders.models() == [spec()]


def test_a_target_is_loaded_again_after_a_restart() -> None:
    stored = spec(options={"target": TARGET}).model_dump_json()
    encoders = EncoderRegistry()
    encoders.register(ModelSpec.model_validate_json(stored))
    np.testing.assert_array_equal(encoders.encode_queries("fake", ["a"]), unit_vectors(["a"]))


def test_a_function_of_another_process_has_to_be_brought(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    encoders.register(spec())
    with pytest.raises(FailedPrecondition, match="register it here too"):
        encoders.get("fake")
    encoders.register(spec(), fake)
    assert encoders.encode_queries("fake", ["a"]).shape == (1, 8)


def test_a_target_that_is_gone_is_unavailable() -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(options={"target": "no_such_module_here:f"}))
    with pytest.raises(Unavailable, match="install or correct it"):
        encoders.get("fake")


def test_an_external_model_asks_for_vectors() -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(backend="external"))
    with pytest.raises(FailedPrecondition, match="give vectors"):
        encoders.encode_queries("fake", ["a"])


def test_an_unknown_model_names_those_there_are() -> None:
    encoders = EncoderRegistry()
    encoders.register(spec("one"))
    encoders.register(spec("two"))
    for call in (encoders.get, encoders.spec, encoders.release, encoders.fingerprint):
        with pytest.raises(NotFound, match="one, two"):
            call("three")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"path": "x"}}, r"no options \['path'\]"),
        ({"options": {"target": 3}}, "target must be text"),
        ({"backend": "external", "options": {"target": TARGET}}, "no options"),
        ({"backend": "onnx"}, "no artifact manifest"),
        ({"backend": "onnx", "options": {"manifest": {"name": "x"}}}, "no artifact manifest: revision"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    encoders = EncoderRegistry()
    with pytest.raises(InvalidArgument, match=message) as caught:
        encoders.register(spec(**changes))
    assert "\n" not in caught.value.message
    assert encoders.models() == []


def test_a_fingerprint_that_its_manifest_does_not_make_is_refused() -> None:
    models = builtin_models()
    lie = models[NEW].model_copy(update={"fingerprint": models[OLD].fingerprint})
    with pytest.raises(InvalidArgument, match="use the manifest's fingerprint"):
        EncoderRegistry().register(lie)


def test_an_encoder_of_another_space_is_refused(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    with pytest.raises(InvalidArgument, match="own fingerprint"):
        encoders.register(spec(fingerprint=fingerprint(revision="2")), fake)
    assert encoders.models() == []


def test_a_name_is_taken_once_and_the_same_again_is_fine(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(), fake)
    encoders.register(spec())
    assert encoders.encode_queries("fake", ["a"]).shape == (1, 8)
    with pytest.raises(AlreadyExists, match="name of its own"):
        encoders.register(spec(fingerprint=fingerprint(revision="2")))
    assert encoders.fingerprint("fake").revision == "1"


def test_every_path_is_checked(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(), fake)
    fake.make = lambda texts: unit_vectors(texts) * 3
    for call in (encoders.encode_queries, encoders.encode_bulk):
        with pytest.raises(DataLoss, match="norm off 1 by 2"):
            call("fake", ["a"])
    fake.make = unit_vectors
    assert encoders.encode_queries("fake", ["a"]).shape == (1, 8)  # nothing bad was cached


def test_bulk_work_does_not_evict_queries(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry(cache_bytes=4_000, bulk_cache_bytes=4_000)
    encoders.register(spec(), fake)
    encoders.encode_queries("fake", ["query"])
    encoders.encode_bulk("fake", [f"item {number}" for number in range(500)])
    fake.calls.clear()
    encoders.encode_queries("fake", ["query"])
    assert fake.calls == []
    stats = encoders.cache_stats()
    assert stats["queries"].hits == 1
    assert stats["bulk"].evictions > 400


def test_release_forgets_the_encoder_and_its_vectors(fake: FakeEncoder) -> None:
    encoders = EncoderRegistry()
    encoders.register(spec(), fake)
    encoders.encode_queries("fake", ["a"])
    assert encoders.loaded() == ["fake"]
    held = encoders.get("fake")
    assert encoders.release("fake")
    assert not encoders.release("fake")
    assert encoders.loaded() == []
    assert encoders.cache_stats()["queries"].entries == 0
    assert held.encode(["a"]).shape == (1, 8)  # who still holds it may finish
    encoders.encode_queries("fake", ["b"])
    assert encoders.loaded() == ["fake"]


def test_threads_that_ask_at_once_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    start = threading.Barrier(6)

    def slow_load(wanted: ModelSpec, threads: int) -> FakeEncoder:
        assert registry_lock_is_free(encoders)  # others find their loaded models meanwhile
        loads.append(wanted.name)
        return FakeEncoder(wanted.fingerprint)

    monkeypatch.setattr(registry, "load_encoder", slow_load)
    encoders = EncoderRegistry()
    for name in ("one", "two"):
        encoders.register(spec(name, fingerprint=fingerprint(model=name)))
    results: list[Vectors] = []

    def work(name: str) -> None:
        start.wait(10)
        results.append(encoders.encode_queries(name, ["a"]))

    workers = [threading.Thread(target=work, args=(name,)) for name in ("one", "two") * 3]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(10)
    assert sorted(loads) == ["one", "two"]
    assert len(results) == 6


def registry_lock_is_free(encoders: EncoderRegistry) -> bool:
    """A thread that looks a model up while another one loads must not wait."""
    done = threading.Event()

    def look() -> None:
        encoders.models()
        done.set()

    threading.Thread(target=look, daemon=True).start()
    return done.wait(10)


def test_a_failed_load_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Fingerprint] = []

    def load(wanted: ModelSpec, threads: int) -> FakeEncoder:
        attempts.append(wanted.fingerprint)
        if len(attempts) == 1:
            raise Unavailable("not yet")
        return FakeEncoder(wanted.fingerprint)

    monkeypatch.setattr(registry, "load_encoder", load)
    encoders = EncoderRegistry()
    encoders.register(spec())
    with pytest.raises(Unavailable):
        encoders.get("fake")
    assert encoders.loaded() == []
    assert encoders.encode_queries("fake", ["a"]).shape == (1, 8)


def test_registering_the_built_in_models_loads_none() -> None:
    encoders = EncoderRegistry()
    for built_in in builtin_models().values():
        encoders.register(built_in)
    assert len(encoders.models()) == 4
    assert encoders.loaded() == []


@pytest.mark.models
def test_the_built_in_models_through_the_registry(minilm_l6: OnnxEncoder) -> None:
    encoders = EncoderRegistry()
    for name in (NEW, UNNORMALISED):
        encoders.register(builtin_models()[name])
    texts = ["financial institution", "dog"]
    np.testing.assert_allclose(encoders.encode_bulk(NEW, texts), minilm_l6.encode(texts), atol=2e-6)
    with pytest.raises(DataLoss, match="norm off 1"):
        encoders.encode_bulk(UNNORMALISED, texts)
