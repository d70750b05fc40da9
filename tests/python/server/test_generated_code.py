"""The committed code of embedcore.v1 is what the protos say."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import embedcore.v1
from embedcore.v1 import common_pb2_grpc

PROTOS = Path(__file__).resolve().parents[3] / "server" / "proto"
FILES = sorted((PROTOS / "embedcore" / "v1").glob("*.proto"))
COMMITTED = Path(embedcore.v1.__file__).parent


def protoc(*options: str) -> None:
    pytest.importorskip("grpc_tools", reason="regeneration needs grpcio-tools (embedcore[dev])")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # where plugins are
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTOS), *options, *map(str, FILES)]
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def forget_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    """protoc writes out a default that the runtime leaves out."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        forget_json_names(message.nested_type)


def test_there_are_protos() -> None:
    assert len(FILES) >= 9


def test_messages_and_services_are_those_of_the_protos(tmp_path: Path) -> None:
    described = tmp_path / "described.bin"
    protoc(f"--descriptor_set_out={described}")
    files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()).file
    assert len(files) == len(FILES)
    for file in files:
        module = importlib.import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
        committed = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(committed)
        for made in (file, committed):
            forget_json_names(made.message_type)
        assert committed == file, f"{file.name} has changed: run the generation of CONTRIBUTING.md"


def test_every_generated_file_is_the_same(tmp_path: Path) -> None:
    """Byte for byte, where the generator is the one that made the committed files."""
    tools = pytest.importorskip("importlib.metadata").version
    pytest.importorskip("grpc_tools", reason="regeneration needs grpcio-tools (embedcore[dev])")
    pytest.importorskip("mypy_protobuf", reason="regeneration needs mypy-protobuf (embedcore[dev])")
    if tools("grpcio-tools") != common_pb2_grpc.GRPC_GENERATED_VERSION:
        pytest.skip(f"made by grpcio-tools {common_pb2_grpc.GRPC_GENERATED_VERSION}")
    protoc(*(f"--{kind}_out={tmp_path}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")))
    fresh = {path.name: path.read_text() for path in (tmp_path / "embedcore" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in COMMITTED.glob("*_pb2*.py*")}
    assert fresh.keys() == committed.keys()
    changed = [name for name in fresh if fresh[name] != committed[name]]
    assert not changed, f"run the generation of CONTRIBUTING.md: {changed} differ"
