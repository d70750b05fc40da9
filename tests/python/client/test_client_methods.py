"""The table of methods against the protos, and the names of the clients against PlatformApi."""

from __future__ import annotations

import importlib
import inspect
import json

import pytest

from embedcore.api import PlatformApi
from embedcore.client import AsyncClient, Client
from embedcore.client.methods import METHODS, Method, service_config
from embedcore.remote import RemotePlatform

MODULES = ("admin", "embed", "engagement", "evaluation", "items", "migration", "search")
LATER = {"Compact", "Rebuild", "SplitShard", "ListAlerts", "AcknowledgeAlert", "SilenceAlert"}
IN_PROTOS = {
    (service.name, method.name): method
    for name in MODULES
    for service in importlib.import_module(f"embedcore.v1.{name}_pb2").DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.name not in LATER
}


def test_the_table_names_every_method_of_the_protos() -> None:
    assert {(method.service, method.name) for method in METHODS} == IN_PROTOS.keys()
    assert len(METHODS) == len(IN_PROTOS)


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.path)
def test_messages_and_streams_agree_with_the_protos(method: Method) -> None:
    described = IN_PROTOS[method.service, method.name]
    assert method.path == f"/{described.containing_service.full_name}/{described.name}"
    assert method.response.DESCRIPTOR is described.output_type
    assert method.long or not (described.client_streaming or described.server_streaming)


def test_no_write_and_no_stream_is_retried() -> None:
    (config,) = json.loads(service_config())["methodConfig"]
    retried = {name["method"] for name in config["name"]}
    assert retried.isdisjoint({"UpsertItems", "DeleteItems", "IngestStream", "Cutover", "Rollback", "Report"})
    assert {"Search", "GetItem", "GetMigration"} <= retried
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("name", public(PlatformApi))
def test_the_remote_platform_takes_what_platform_api_takes(name: str) -> None:
    wanted, offered = public(PlatformApi)[name], public(RemotePlatform)[name]
    for parameter in wanted.parameters.values():
        assert offered.parameters[parameter.name].kind is parameter.kind
        assert offered.parameters[parameter.name].default == parameter.default
    for parameter in set(offered.parameters) - set(wanted.parameters):
        assert offered.parameters[parameter].default is not inspect.Parameter.empty
    assert wanted.return_annotation == offered.return_annotation


def test_both_clients_have_the_same_methods() -> None:
    blocking, asynchronous = public(Client), public(AsyncClient)
    assert blocking.keys() == asynchronous.keys()
    transport = {"run", "watch", "exchange", "close"}
    for name in asynchronous.keys() - transport:
        assert list(blocking[name].parameters) == list(asynchronous[name].parameters), name
    assert public(PlatformApi).keys() <= blocking.keys()
