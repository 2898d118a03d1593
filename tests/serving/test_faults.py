"""Faults that a service meets: odd events, models that raise, damaged rows, other stores."""

import json
import math
import sqlite3
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.cli import _serve
from sklearn_recft.loop._events import Event
from sklearn_recft.loop._items import check_stored_items
from sklearn_recft.serving import (
    AuditLog,
    FeedbackStore,
    KeyFile,
    Loop,
    ServingError,
    StoreError,
)
from tests.serving.http_service import ROWS, running, secured


def event(user="ann", item="tea", **more):
    return {"user_id": user, "item_id": item, **more}


def popularity():
    return PopularityRecommender().fit(ROWS)


@pytest.fixture
def store(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
    yield store
    store.close()


def loop_of(model, store, tmp_path, **options):
    return Loop(model, store, tmp_path / "models", **({"feedback": None} | options))


# ------------------------------------------------------------------------------ events


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 10**400}, "value is a number beyond the largest float"),
        ({"timestamp": 10**400}, "timestamp is a number beyond the largest float"),
        ({"timestamp": [1, 2]}, "timestamp must be seconds"),
        ({"timestamp": np.timedelta64(5, "s")}, "timestamp must be a number"),
        ({"user_id": 10**5000}, "user_id is an integer of more than 1024 digits"),
        ({"event_id": 10**5000}, "event_id is an integer of more than 1024 digits"),
        ({"user_id": "\ud800"}, "user_id has a character that UTF-8 has not"),
        ({"context": {"a": "\ud800"}}, "'a' has a character that UTF-8 has not"),
        ({"context": {"a": 10**5000}}, "'a' has more than 1024 digits"),
    ],
)
def test_an_odd_event_is_named(store, change, message):
    with pytest.raises((TypeError, ValueError), match=rf"events, row 1: .*{message}"):
        store.append([event(), event(**change)])
    assert store.last_seq() == 0
    if set(change) <= {"user_id", "event_id"}:
        with pytest.raises((TypeError, ValueError), match=message):
            store.append([Event(**{"event_id": "e", **event(), **change})])


def test_a_kind_is_a_text(store, tmp_path):
    with pytest.raises(TypeError, match="feedback has the kind 1: give texts"):
        loop_of(popularity(), store, tmp_path, feedback={1: 1.0, "click": 1.0})


@pytest.mark.parametrize(
    "value",
    [10**400, math.inf, "\ud800", {"a": 1}, [[1]]],
    ids=["huge", "infinite", "surrogate", "dict", "nested"],
)
def test_an_odd_item_is_named(value):
    with pytest.raises(ValueError, match=r"items, row 0: \['price'\] must be finite numbers"):
        check_stored_items([{"item_id": 1, "price": value}])


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [np.nan]},
        {"scores": [-np.inf]},
        {"list_id": "a\0"},
        {"seq": 10**30},
        {"seq": "z"},
        {"model": 5},
        {"items": "tea"},
        {"items": [None]},
    ],
)
def test_an_odd_list_is_named(store, change):
    good = {"list_id": "l", "user_id": "ann", "items": ["tea"]}
    with pytest.raises((TypeError, ValueError), match="lists, row 0: "):
        store.append_lists([good | change])
    assert store.shown("l") is None


# ------------------------------------------------------------------------------ learning


@pytest.fixture
def raising(monkeypatch):
    """Return a model that raises an error for one item, before it changes anything."""

    def make(error, n_failures=1_000_000):
        original, left = PopularityRecommender.partial_fit, [n_failures]

        def partial_fit(self, X, y=None, **options):
            if "poison" in X[:, 1] and left[0]:
                left[0] -= 1
                raise error("poison")
            return original(self, X, y, **options)

        monkeypatch.setattr(PopularityRecommender, "partial_fit", partial_fit)
        return popularity()

    return make


@pytest.mark.parametrize("error", [KeyError, RuntimeError])
def test_no_error_of_a_model_stops_the_loop(error, raising, store, tmp_path):
    with loop_of(raising(error), store, tmp_path) as loop:
        loop.submit([event("dan", "rye"), event("dan", "poison"), event("eva", "tea")])
        assert loop.wait(3, timeout=60)
        assert loop.health().error is None
        assert loop.recommend(["new"], 1, exclude_seen=False).scores.tolist() == [[4.0]]
    assert store.counts()["rejected"] == 1


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_an_error_of_the_machine_is_tried_again(error, raising, store, tmp_path):
    with loop_of(raising(error, n_failures=3), store, tmp_path, poll_seconds=0.01) as loop:
        loop.submit([event("dan", "poison")])
        assert loop.wait(1, timeout=60)
        loop.submit([event("dan", "tea")])
        assert loop.wait(2, timeout=60)
        assert loop.health().rejected == 0
        assert "poison" in loop.recommend(["new"], 4, exclude_seen=False).items


def test_a_warning_that_is_an_error_refuses_nothing(store, tmp_path):
    model = IncrementalMFRecommender(n_factors=2, random_state=0)
    model.fit(np.array([[1, 7], [2, 7], [2, 8]]), [5.0, 1.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with loop_of(model, store, tmp_path, feedback={"click": 1}) as loop:
            loop.submit([event("1", "7")])  # strings, where all known ids are numbers
            assert loop.wait(1, timeout=60)
            assert loop.health().error is None
    assert store.counts()["rejected"] == 0


def test_items_of_arrays_of_floats_are_integers_in_lists(store, tmp_path):
    model = PopularityRecommender().fit(np.array([[1.0, 7.0, 1e9], [2.0, 7.0, 1e9]]))
    with loop_of(model, store, tmp_path) as loop:
        found = loop.recommend([1], 1, exclude_seen=False)
    shown = store.shown(found.list_ids[0])
    assert json.dumps(shown.items) == "[7]"
    other = PopularityRecommender().fit(np.array([[1, 7.5], [2, 7.5]]))
    with pytest.raises(TypeError, match="item_ids_ of the model must be an integer or a text"):
        Loop(other, store, tmp_path / "others", feedback=None).start()
    with Loop(model, store, tmp_path / "others", feedback=None) as loop:  # it was not saved
        assert loop.recommend([1], 1, exclude_seen=False).items.tolist() == [[7.0]]


@pytest.mark.parametrize(
    ("refuse", "error"), [((0, 10**9), ValueError), ((0, 0.5), TypeError), ((0,), TypeError)]
)
def test_a_range_of_events_to_come_is_not_refused(refuse, error, store, tmp_path):
    with loop_of(popularity(), store, tmp_path) as loop:
        loop.submit([event()])
        assert loop.wait(1, timeout=60)
        with pytest.raises(error, match="refuse="):
            loop.rollback(loop.models()[0].name, refuse)
        assert loop.health().refused == ()


# ------------------------------------------------------------------------------ disk


@pytest.mark.parametrize(
    "change",
    [
        "until = 0 WHERE step = 3",
        "until = 1000 WHERE step = 3",
        "verb = 'fit' WHERE step = 3",
        "after = 0 WHERE step = 3",
        "details = 'x' WHERE step = 1",
        "details = '[]' WHERE step = 1",
        "details = NULL WHERE step = 1",
    ],
)
def test_a_damaged_step_is_named_and_not_learned(change, store, tmp_path):
    with loop_of(popularity(), store, tmp_path, learn="chunk", chunk_seconds=0) as loop:
        for n in (1, 2):
            loop.submit([event()])
            assert loop.wait(n, timeout=60)
    for path in (tmp_path / "models" / "models").iterdir():
        path.rename(tmp_path / path.name)  # the snapshot is lost, and all is repeated
    with sqlite3.connect(tmp_path / "feedback.db") as database:
        database.execute(f"UPDATE learned SET {change}")
    with pytest.raises(StoreError, match="is damaged"):
        loop_of(None, store, tmp_path, learn="chunk").start()


def test_another_store_is_refused(store, tmp_path):
    with loop_of(popularity(), store, tmp_path):
        pass
    other = FeedbackStore(f"sqlite:///{tmp_path}/other.db", durable=False)
    for _ in range(2):  # with more steps than the models of the folder
        with Loop(popularity(), other, tmp_path / "others", feedback=None) as loop:
            loop.rollback(loop.models()[0].name, (0, 0))
    for follow in (False, True):
        with pytest.raises(ServingError, match="models of another store"):
            loop_of(None, other, tmp_path, follow=follow).start()
    other.close()
    with loop_of(None, store, tmp_path) as loop:
        assert loop.seq == 0


def test_a_list_that_waits_is_erased_too(store, tmp_path):
    with loop_of(popularity(), store, tmp_path) as loop:
        loop.recommend(["zoe"], 2)
        loop.forget(["zoe"])
    store.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if b"zoe" in path.read_bytes()] == []


def test_an_erasure_that_a_reader_holds_up_is_no_success(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db?timeout=0.1", durable=False)
    store.append([event("zoe")])
    reader = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM event").fetchall()
    with pytest.raises(StoreError, match=r"another connection reads the file|locked"):
        store.forget(["zoe"])
    reader.close()
    store.forget(["zoe"])
    store.close()
    assert all(b"zoe" not in path.read_bytes() for path in tmp_path.iterdir())


def test_half_a_row_of_the_audit_log_makes_way(tmp_path):
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append("a", "save")
    with path.open("ab") as file:
        file.write(b'{"n": 2, "ti')  # the disk was full, or the machine stopped
    log = AuditLog(path)
    with pytest.raises(ValueError, match="row 2 is damaged"):
        log.verify()
    assert log.verify(log.append("b", "save")) == 2


# ------------------------------------------------------------------------------ HTTP


def sent(client, *events):
    events = [{"kind": "click", **one} for one in events]
    return client.post("/v1/events", json={"events": events})


@pytest.mark.parametrize("user", ["a/export", "é\n"])
def test_any_id_in_a_path(user, tmp_path):
    path = "/v1/users/" + "".join(f"%{byte:02X}" for byte in user.encode())
    with running(tmp_path) as client:
        sent(client, event(user), event(user.strip()[:1] or "a"))
        events = client.get(f"{path}/export").json()["events"]
        assert [one["user_id"] for one in events] == [user]
        assert client.delete(path).json()["receipt"]["store"]["event"] == 1


def test_pages_of_other_sites_change_nothing(tmp_path):
    with running(tmp_path) as client:
        for origin, status in [
            ("http://evil.example", 403),
            ("http://127.0.0.1.evil.example:80", 403),
            ("null", 403),
            ("http://[", 403),
            ("http://127.0.0.1", 200),
            ("http://127.0.0.1:3000", 403),  # another program of this machine
        ]:
            assert client.post("/v1/models", headers={"origin": origin}).status_code == status


def test_a_database_that_cannot_be_read_is_seen_by_its_alert(tmp_path, monkeypatch):
    def fail(self):
        raise StoreError("the database is down")

    with running(tmp_path) as client:
        assert "recft_ready 1.0" in client.get("/metrics").text
        monkeypatch.setattr(Loop, "models", fail)
        monkeypatch.setattr(FeedbackStore, "counts", fail)
        page = client.get("/metrics")
        assert page.status_code == 200
        assert "recft_ready 0.0" in page.text
        assert "recft_seq 0.0" in page.text
        assert client.get("/health/ready").status_code == 503
        assert client.post("/v1/models/some/promote").status_code == 503


def test_the_first_event_of_a_model_that_knows_none(tmp_path):
    with running(tmp_path, PopularityRecommender()) as client:
        assert client.post("/v1/recommend", json={"users": ["a"]}).status_code == 503
        assert client.get("/metrics").status_code == 200
        assert sent(client, event()).status_code == 202
        lists = client.post("/v1/recommend", json={"users": ["b"], "min_seq": 1}).json()["lists"]
        assert [one["item_id"] for one in lists[0]["items"]] == ["tea"]


def test_types_of_bodies(tmp_path):
    with running(tmp_path) as client:
        for kind, status in [
            ("Application/JSON", 200),
            ("application/json ; charset=utf-8", 200),
            ("application/jsonfoo", 415),
        ]:
            headers = {"content-type": kind}
            found = client.post("/v1/recommend", content='{"users": ["a"]}', headers=headers)
            assert found.status_code == status


@pytest.mark.parametrize("make", [PopularityRecommender, IncrementalMFRecommender])
def test_a_huge_value_spoils_no_figure_and_no_list(make, tmp_path):
    feedback = {"click": 1.0, "skip": 0.0}
    model = make().fit(ROWS, [1, 0, 1, 0, 1])
    options = {"loop_options": {"feedback": feedback}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with running(tmp_path, model, **options) as client:
            refused = sent(client, event(value=1e29))
            assert refused.status_code == 422
            assert "value=1e+29 is beyond 7.9e+28" in refused.text
            sent(client, event(value=7e28))
            sent(client, event(value=7e28))
            lists = client.post("/v1/recommend", json={"users": ["ann", "new"]})
            found = [entry["score"] for one in lists.json()["lists"] for entry in one["items"]]
            assert np.isfinite(found).all()
            sent(client, event(value=1.0))
            page = client.get("/metrics").text
    loss = next(line for line in page.splitlines() if 'window="all"' in line)
    assert 0 <= float(loss.split()[-1]) < math.inf


@pytest.mark.parametrize("change", [{"expires": "soon"}, {"hash": 5}, {"created": None}])
def test_a_damaged_file_of_keys_lets_nobody_in(change, tmp_path):
    with secured(tmp_path) as (client, keys):
        found = json.loads(keys.file.path.read_text())
        found["keys"][0].update(change)
        keys.file.path.write_text(json.dumps(found))
        headers = {"authorization": f"Bearer {keys.all}"}
        assert client.get("/v1/models", headers=headers).status_code == 500
        with pytest.raises(ValueError, match="a key has a field of another type"):
            KeyFile(keys.file.path).list()


def test_lengths_of_time_of_keys(tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    for days in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match="days must be above 0"):
            keys.add(["metrics:read"], days=days)
    key = keys.add(["metrics:read"])
    for days in (float("nan"), -1):
        with pytest.raises(ValueError, match="grace_days must be"):
            keys.rotate(keys.list()[0].id, grace_days=days)
    assert keys.verify(key) is not None


# ------------------------------------------------------------------------------ command line


def test_the_demo_ends_now(monkeypatch):
    catalogue = SimpleNamespace(item_id=np.array([7, 8]), title=np.array(["Tea", "Rye"]))
    data = np.array([[1, 7, 1_500_000_000], [1, 8, 1_540_000_000], [2, 7, 1_540_000_000]])
    log = SimpleNamespace(data=data, catalogue=catalogue)
    monkeypatch.setattr("sklearn_recft.datasets.load_complete_journey", lambda: log)
    model = _serve._groceries()
    before = model.recommend(["me"], n_recommendations=2)[1][0]
    model.partial_fit(np.array([["me", "Rye (8)", time.time()]], dtype=object))
    after = model.recommend(["you"], n_recommendations=2)[1][0]
    assert before[0] > 0.1
    assert after.min() > 0.1 * before.min() > 0


def test_a_restart_goes_on_with_the_options_of_the_start(tmp_path, monkeypatch):
    from sklearn_recft.cli import main
    from sklearn_recft.persistence import ModelStore

    found = []

    def server(app, **options):
        return SimpleNamespace(run=lambda: None)

    def application(loop, **options):
        found.append((dict(loop.feedback), options["exclude_seen"]))

    monkeypatch.setattr("sklearn_recft.serving.make_server", server)
    monkeypatch.setattr("sklearn_recft.serving.create_app", application)
    model = IncrementalMFRecommender(n_factors=2, random_state=0).fit(ROWS, [1, 0, 1, 0, 1])
    ModelStore(tmp_path / "saved").save(model, seq=5, metadata={"repeat": True})
    folder = ["serve", "--folder", str(tmp_path / "service")]
    main([*folder, "--model", str(tmp_path / "saved"), "--feedback", "click=2"])
    main(folder)
    main([*folder, "--no-repeat"])
    main(folder)
    assert found == [({"click": 2.0}, seen) for seen in (False, False, True, True)]
