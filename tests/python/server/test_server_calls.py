"""Every method through a real server and the real client: what arrives, and what comes back."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from embedcore.client import Client
from embedcore.errors import AlreadyExists, FailedPrecondition, GateNotMet, InvalidArgument, NotFound
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.migration_types import Phase, Plan
from embedcore.server import Server
from embedcore.types import Fingerprint, Item, ModelSpec, SearchRequest
from embedcore.v1 import evaluation_pb2, evaluation_pb2_grpc, search_pb2, search_pb2_grpc
from support.fake_platform import DIGEST, DIMENSION, TOY, FakePlatform, toy_vector


def test_writes_reads_and_deletes(client: Client) -> None:
    item = Item("a", "red bicycle", attributes={"price": 3, "new": True}, namespace="shop", created_at=5.0)
    receipt = client.upsert([item, Item("b", vectors={DIGEST: toy_vector("boat")})])
    assert (receipt.token, receipt.versions, receipt.repairs) == ({0: 2}, (1, 1), 0)
    stored = client.get_item("a", "shop")
    assert (stored.content, stored.attributes, stored.created_at) == (
        "red bicycle",
        {"price": 3, "new": True},
        5.0,
    )
    assert stored.held == {1: 1}
    assert client.delete(["a", "unknown"], "shop").versions == (2, 0)
    with pytest.raises(NotFound, match="no item 'a'"):
        client.get_item("a", "shop")


def test_search_by_text_and_by_vector_with_everything_set(client: Client, platform: FakePlatform) -> None:
    client.upsert([Item(name, name, attributes={"kind": name[0]}) for name in ("boat", "bike", "car")])
    by_text = client.search("search", "boat", k=2)
    assert by_text.hits[0].id == "boat"
    assert len(by_text.hits) == 2
    by_vector = client.search(
        "ads",
        vectors={DIGEST: toy_vector("bike")},
        filter={"kind": "b"},
        min_sequence={0: 3},
        user_key="canary",
        timeout=9.0,
    )
    assert [hit.id for hit in by_vector.hits] == ["bike", "boat"]
    assert by_vector.hits[0].score == pytest.approx(1.0, abs=1e-6)
    assert (by_vector.provenance.arm, by_vector.provenance.fingerprints) == ("canary", (DIGEST,))
    seen = platform.searched[-1]
    assert (seen.k, seen.filter, seen.min_sequence) == (None, {"kind": "b"}, {0: 3})
    assert seen.deadline_s is not None
    assert 0 < seen.deadline_s < 9.5  # gRPC rounds timeouts up by up to 1%


def test_a_call_without_a_deadline_has_none(server: Server, platform: FakePlatform) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        answer = stub.Search(search_pb2.SearchRequest(consumer="search", text="x", request_id="r-17"))
    assert answer.request_id == "r-17"
    assert platform.searched[-1].deadline_s is None


def test_batches_and_streams_keep_the_order(client: Client) -> None:
    client.upsert([Item(str(number), f"text {number}") for number in range(5)])
    requests = [SearchRequest("search", text=f"text {number}", k=1) for number in (3, 1, 4)]
    assert [answer.hits[0].id for answer in client.search_batch(requests)] == ["3", "1", "4"]
    assert [answer.hits[0].id for answer in client.search_stream(iter(requests))] == ["3", "1", "4"]
    batches = [[Item(f"{batch}-{place}") for place in range(batch)] for batch in (1, 2, 3)]
    receipts = list(client.ingest(batches))
    assert [len(receipt.versions) for receipt in receipts] == [1, 2, 3]
    assert [receipt.token[0] for receipt in receipts] == [6, 8, 11]


def test_embed(client: Client) -> None:
    fingerprint, vectors = client.embed("toy", ["boat", "bike"])
    assert fingerprint == TOY.fingerprint
    np.testing.assert_array_equal(vectors, [toy_vector("boat"), toy_vector("bike")])
    assert client.embed("toy", [])[1].shape == (0, DIMENSION)
    with pytest.raises(NotFound, match="no model 'toi': known are toy"):
        client.embed("toi", ["boat"])


def test_registries(client: Client, platform: FakePlatform) -> None:
    assert client.consumers() == platform.consumers()
    changed = client.consumers()[0].model_copy(update={"ef_search": 77})
    assert client.set_consumer(changed) == changed
    assert client.consumers()[0].ef_search == 77
    other = ModelSpec(
        name="other", backend="external", fingerprint=Fingerprint(model="o", revision="2", dimension=3)
    )
    assert client.register_model(other) == other
    assert client.models() == [TOY, other]
    with pytest.raises(AlreadyExists):
        client.register_model(other.model_copy(update={"backend": "onnx"}))
    assert client.generations() == platform.generations()
    with pytest.raises(FailedPrecondition, match="generation 1 exists"):
        client.create_generation("other")
    status = client.status()
    assert (status.ready, status.version, status.details["lag"]) == (True, "0.1.0", 0.5)


def test_a_migration_from_start_to_end(client: Client, platform: FakePlatform) -> None:
    plan = Plan(canary_share=0.1, simulated_engagement=True)
    started = client.start_migration("toy", plan, who="ann", why="cheaper")
    assert started == platform.migration()
    assert started.migration.plan == plan
    assert client.migration("m1") == started
    assert client.migrations() == [started]
    weighted = client.set_weight("m1", "ads", 0.25, who="ann", override="incident 7")
    assert weighted.migration.consumers["ads"].weight == 0.25
    assert client.pause_migration(who="bob").migration.paused
    assert not client.resume_migration(who="bob").migration.paused
    extended = client.extend_window("m1", 3_600.0, who="bob", why="slow backfill").migration
    assert extended.window_until is not None
    with pytest.raises(InvalidArgument, match="positive"):
        client.extend_window("m1", -1.0, who="bob", why="slow backfill")
    reverted = client.revert_consumer("m1", "ads", who="bob", why="clicks fell")
    assert reverted.migration.consumers["ads"].reverted
    with pytest.raises(GateNotMet, match=r"coverage is 62\.5%"):
        client.cutover(who="ann")
    assert client.cutover(who="ann", override="drill").migration.phase is Phase.GRACE
    assert client.rollback(who="ann").migration.phase is Phase.ROLLED_BACK
    assert client.decommission(who="ann").migration.phase is Phase.DONE
    assert client.abort_migration("m1", who="ann").migration.phase is Phase.ABORTED
    events = client.migration_events("m1", after=1)
    assert [(event.what, event.who, event.why) for event in events] == [
        ("weight", "ann", "incident 7"),
        ("pause", "bob", ""),
        ("resume", "bob", ""),
        ("extend", "bob", "slow backfill"),
        ("revert", "bob", "clicks fell"),
        ("cutover", "ann", "drill"),
        ("rollback", "ann", ""),
        ("decommission", "ann", ""),
        ("abort", "ann", ""),
    ]
    assert [event.number for event in client.migration_events()] == list(range(1, 11))
    with pytest.raises(NotFound, match="no migration 'm9'"):
        client.migration("m9")


def test_watching_ends_with_the_migration(client: Client) -> None:
    client.start_migration("toy", who="ann")
    watched = client.watch_migration()
    assert next(watched).migration.phase is Phase.DUAL_WRITE
    client.abort_migration(who="ann")
    assert list(watched)[-1].migration.phase is Phase.ABORTED


def test_evaluation_and_engagement(client: Client, platform: FakePlatform) -> None:
    query = GoldenQuery(id="q1", text="boat", relevant={"a": 1.0})
    golden = GoldenSet(name="gold", consumer="search", queries=(query,) * 1)
    assert client.import_golden_set(golden) == platform.import_golden_set(golden)
    assert client.evaluate("search", 1) == platform.evaluate("search", 1)
    assert client.compare("search", 1, 2) == platform.compare("search", 1, 2)
    client.report_engagement("ads", "canary", {"impressions": 10, "depth": 1.5}, simulated=True)
    assert platform.engagement == [("ads", "canary", {"impressions": 10.0, "depth": 1.5}, True, "")]
    assert client.compare_engagement("ads", "m1") == platform.compare_engagement("ads", "m1")


def test_snapshots_and_verification(client: Client, platform: FakePlatform) -> None:
    assert client.snapshot() == platform.snapshot()
    assert client.verify(7) == platform.verify(7)
    assert client.verify()["checked"] == [{"what": "store", "items": 1000}]


def test_a_backup_is_asked_for_by_a_path_that_means_the_same_there(client: Client) -> None:
    assert client.backup("/srv/backups/one")["destination"] == "/srv/backups/one"
    assert client.backup("s3://bucket/one")["files"][0]["name"] == "store.sqlite"
    with pytest.raises(InvalidArgument, match="absolute path or a URL"):
        client.backup("backups/one")
    with pytest.raises(FailedPrecondition, match="is not empty"):
        client.backup("/taken")


def test_evaluation_through_the_server(client: Client, platform: FakePlatform) -> None:
    golden = GoldenSet(
        name="mine",
        consumer="ads",
        public=True,
        queries=(GoldenQuery(id="q", text="t", relevant={"a": 1.0}),),
    )
    assert client.import_golden_set(golden, gate=False)["gate"] is False
    assert client.golden_sets() == platform.golden_sets() != []
    plan = Plan(policy="non-inferior", margin=0.03)
    client.compare("ads", 1, 2, plan, equal_freshness=True, golden_set="mine")
    assert platform.asked[-1] == ("ads", plan, True, "mine")
    assert client.evaluate("ads", golden_set="mine")["golden"] == "mine"
    sampled = client.sample_queries("ads", {"head": 2, "tail": 5}, depth=7, min_count=1, seed=-3)
    assert platform.asked[-1] == ("ads", {"head": 2, "tail": 5}, 7, 1, -3)
    assert sampled == platform.sample_queries("ads", {})
    assert client.evaluation_report(1, 2, consumers=["ads"], plan=plan) == platform.report
    assert platform.asked[-1] == (1, 2, ("ads",), plan, "")
    assert client.calibrate_ef("ads", 2, apply=True) == platform.calibrate_ef("ads", 2, apply=True)
    assert client.calibrate_ef("dedup")["ef_search"] is None
    assert client.calibrate_scores(1, 2) == platform.calibrate_scores(1, 2)
    assert client.check_parity() == platform.parity
    assert client.preflight("toy", plan)["passed"] is True
    with pytest.raises(InvalidArgument, match="no target model named"):
        client.preflight("")


def test_the_report_comes_as_a_page_too(server: Server, platform: FakePlatform) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = evaluation_pb2_grpc.EvaluationServiceStub(channel)
        report = stub.GetReport(evaluation_pb2.GetReportRequest(source_generation=1, target_generation=2))
        assert report.html.startswith(b"<!doctype html>")
        assert (report.go, report.headline) == (False, platform.report["headline"])
        effect = stub.CalibrateEf(evaluation_pb2.CalibrateEfRequest(consumer="dedup"))
        assert not effect.HasField("ef_search")
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetReport(evaluation_pb2.GetReportRequest(plan_json='{"policy": "lax"}'))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
