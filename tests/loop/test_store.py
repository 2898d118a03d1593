"""The store: each event once and in one order, whatever fails."""

import json
import resource
import sqlite3
import threading

import numpy as np
import pandas as pd
import pytest

from sklearn_recft.loop._bulk import Fresh
from sklearn_recft.loop._items import check_stored_items
from sklearn_recft.loop._steps import Step, StepLog
from sklearn_recft.serving import Event, FeedbackStore, StoreError


def events(n, prefix="e", **more):
    return [
        {"event_id": f"{prefix}{j}", "user_id": j % 3, "item_id": f"i{j}", **more} for j in range(n)
    ]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/feedback.db"


@pytest.fixture
def store(url):
    store = FeedbackStore(url, batch_size=7)
    yield store
    store.close()


def test_events_come_back_as_they_were(store):
    given = [
        {"event_id": "a", "user_id": 7, "item_id": "7", "timestamp": 1e9 + 0.1, "kind": "purchase"},
        {"event_id": "b", "user_id": "7", "item_id": 2**70, "value": 0.1, "list_id": "l"},
        {
            "event_id": "c",
            "user_id": "Zoë 猫\0",
            "item_id": -1,
            "context": {"hour": 3, "text": "é"},
        },
    ]
    assert store.append(given) == ([1, 2, 3], 0)
    found = store.read()
    assert found.seq.tolist() == [1, 2, 3]
    for event, one in zip(found.events, given, strict=True):
        for name, value in one.items():
            assert getattr(event, name) == value
            assert type(getattr(event, name)) is type(value)
    assert [len(store.read(1, 1)), len(store.read(0, until=2)), store.last_seq()] == [1, 2, 3]


def test_an_event_is_stored_once(store):
    assert store.append(events(20)).duplicates == 0
    again = store.append([*events(25)[15:], *events(2, "n"), events(1, "n")[0]])
    assert again == ([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 26], 6)
    assert store.append([]) == ([], 0)
    assert store.last_seq() == 27


def test_fresh_events_are_those_of_the_log(store, monkeypatch):
    more = {"user_id": "Zoë\0", "value": -0.0, "timestamp": 1e9 / 3, "context": {"hour": -0.0}}
    store.append([*events(20, value=0.1), {"event_id": "z", "item_id": 2**70, **more}])
    store.append(events(23))
    for after, limit in ((0, 100), (3, 2), (21, 1), (22, 9)):
        (batch, has_more), log = store.fresh(after, limit), store.read(after, limit)
        assert repr(batch.events) == repr(log.events)
        assert batch.seq.tolist() == log.seq.tolist()
        assert has_more == (after + limit < store.last_seq())
    assert store.fresh(24, 9) is None  # nothing is new
    store.forget([0])
    assert store.fresh(0, 9) is None
    store.append(events(2, "n"))
    assert store.fresh(22, 9) is None  # the log knows what comes next, memory does not
    assert [event.event_id for event in store.fresh(24, 9)[0].events] == ["n0", "n1"]
    monkeypatch.setattr("sklearn_recft.loop._bulk._SECONDS", -1.0)
    assert store.fresh(24, 9) is None  # too old


def test_what_was_forgotten_does_not_become_fresh_late():
    fresh, event = Fresh(), Event("e", "a", "b")
    generation = fresh.generation  # of a commit
    fresh.clear()  # before the commit is added
    fresh.add([(1, event)], generation)
    assert fresh.after(0, 9) is None
    fresh.add([(1, event)], fresh.generation)
    assert fresh.after(0, 9)[0].events == [event]


def test_threads_and_processes_send_the_same_events(store, url):
    stores, found = [store, FeedbackStore(url), FeedbackStore(url)], []

    def send(place):
        found.append(stores[place % 3].append(events(30)).seq)

    threads = [threading.Thread(target=send, args=(place,)) for place in range(9)]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    assert found == [list(range(1, 31))] * 9
    assert len(store.read()) == 30
    for other in stores[1:]:
        other.close()


def test_a_frame(store):
    frame = pd.DataFrame(
        {
            "user_id": [1, 2],
            "item_id": ["a", "b"],
            "timestamp": pd.to_datetime(["2020-01-01"] * 2),
            "value": [1.0, np.nan],
            "hour": [3, 4],
        }
    )
    store.append(frame)
    one, other = store.read().events
    assert (one.timestamp, one.value, one.context) == (1577836800.0, 1.0, {"hour": 3})
    assert (other.value, type(other.user_id)) == (None, int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, r"row 1: \['user_id'\] are missing"),
        ({"user_id": 1.5}, "row 1: user_id must be an integer or a text"),
        ({"item_id": True}, "row 1: item_id must be an integer or a text"),
        ({"item_id": ("a", 1)}, "tuple"),
        ({"item_id": ""}, "0 characters"),
        ({"value": "x"}, "row 1: value must be a finite number"),
        ({"value": float("inf")}, "finite"),
        ({"timestamp": 1.7e12}, "row 1: timestamp"),
        ({"kind": "x" * 65}, "kind must be a text of 1 to 64"),
        ({"event_id": "a\0"}, "event_id must be a text"),
        ({"context": [1]}, "context must be a dict"),
        ({"context": {"user_id": 1}}, "has the name 'user_id'"),
        ({"context": {"x": [1]}}, "must be a number or a text"),
        ({"price": 1}, r"unknown names \['price'\]"),
    ],
)
def test_a_wrong_event_is_named_and_nothing_is_stored(store, change, message):
    bad = events(3)
    bad[1] |= change
    with pytest.raises((ValueError, TypeError), match=message):
        store.append(bad)
    assert store.last_seq() == 0


def test_other_input_is_refused(store, tmp_path):
    for bad in ("text", {"user_id": 1}, [3]):
        with pytest.raises(TypeError, match="must be a"):
            store.append(bad)
    with pytest.raises(ValueError, match=r"columns \['item_id'\] are missing"):
        store.append(pd.DataFrame({"user_id": [1]}))
    for bad in (
        {"url": "sqlite://"},
        {"url": "mysql://x/y"},
        {"batch_size": 0},
        {"retention_days": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            FeedbackStore(**{"url": f"sqlite:///{tmp_path}/x.db", **bad})


def test_times_out_of_the_window_are_moved_and_counted(url):
    now = [1000.0]
    store = FeedbackStore(url, max_late=100, max_future=10, clock=lambda: now[0])
    given = [{"user_id": 1, "item_id": 1, "timestamp": t} for t in (899, 950, 1010, 1011, None)]
    store.append(given)
    now[0] = 500.0  # the clock runs backwards
    store.append(given[-1:])
    found = store.read().events
    assert [e.timestamp for e in found] == [900, 950, 1010, 1010, 1000, 1000]
    assert [e.clipped for e in found] == [1, 0, 0, -1, 0, 0]
    assert store.counts() == {"events": 6, "late": 1, "future": 1, "rejected": 0}
    store.close()


def test_lists(store):
    shown = {"list_id": "l", "user_id": 1, "items": ["a", 3], "scores": [2.0, 1.0], "seq": 5}
    assert store.append_lists([shown, {"list_id": "m", "user_id": "1", "items": []}]) == 2
    assert store.append_lists([{**shown, "items": ["b", 3]}]) == 0
    found = store.shown("l")
    assert (found.user_id, found.items, found.scores, found.seq) == (1, ["a", 3], [2.0, 1.0], 5)
    assert store.shown("x") is None
    with pytest.raises(ValueError, match="row 0: give a dict with list_id"):
        store.append_lists([{"list_id": "n"}])


def test_a_user_is_exported_and_forgotten_to_the_last_byte(store, tmp_path):
    secret = [{**one, "user_id": "mallory-17", "context": {"note": "xyzzy"}} for one in events(50)]
    store.append(secret + events(5, "other"))
    store.append_lists([{"list_id": "l", "user_id": "mallory-17", "items": [1]}])
    found = store.export("mallory-17")
    assert (len(found["events"]), len(found["lists"])) == (50, 1)
    assert found["events"][0]["context"] == {"note": "xyzzy"}
    assert json.loads(json.dumps(found)) == found
    receipt = store.forget(["mallory-17", "nobody"])
    assert (receipt.n_users, receipt.removed) == (1, {"event": 50, "shown": 1, "rejected": 0})
    assert store.export("mallory-17")["events"] == []
    store.append(events(1, "new"))
    assert store.read().seq.tolist() == [51, 52, 53, 54, 55, 56]  # no number is given out twice
    for file in tmp_path.iterdir():
        assert not any(word in file.read_bytes() for word in (b"mallory", b"xyzzy")), file


def test_columns_are_those_of_the_events(store, tmp_path):
    store.append([*events(600), {"user_id": "7", "item_id": 2**70, "value": 0.1, "timestamp": 5.5}])
    whole, found = store.read(2, 700), store.read_columns(2, 700)
    for some in (slice(None), slice(3, 300), np.array([0, 5, 598])):
        one, other = whole.take(some), found.take(some)
        assert one.seq.tolist() == other.seq.tolist()
        for own, expected in zip(other.columns, one.columns, strict=True):
            assert list(map(repr, own)) == list(map(repr, expected))
    assert [e[1:6] for e in found.events] == [e[1:6] for e in whole.events]
    assert len(store.read_columns(601, 700)) == 0
    store.append_all([check_stored_items([{"item_id": "oat", "text": "oat milk"}])])
    assert store.read_columns(500, 700).events[-1].context == {"text": "oat milk"}
    with sqlite3.connect(tmp_path / "feedback.db") as database:
        database.execute("UPDATE event SET item_id = '{' WHERE seq = 9")
    with pytest.raises(StoreError, match="Event 9 is damaged"):
        store.read_columns(5, 20)


def test_what_is_read_in_parts_equals_the_whole(store):
    store.append([{"user_id": "ann", "item_id": j} for j in range(30)])
    store.append_lists({"list_id": f"l{j}", "user_id": "ann", "items": [1, 2, 3]} for j in range(5))
    parts = list(store.export_parts("ann", size=4))
    whole = store.export("ann")
    assert max(len(rows) for _, rows in parts) == 4
    assert (len(whole["events"]), len(whole["lists"])) == (30, 15)
    for name in ("events", "lists"):
        assert [row for own, rows in parts if own == name for row in rows] == whole[name]
    steps = StepLog(store.database)
    steps.reject(dict.fromkeys((2, 3, 11, 12, 29), "no"))
    expected = np.isin(np.arange(2, 31), (2, 3, 11, 12, 29))
    assert steps.are_rejected(np.arange(2, 31), size=2).tolist() == expected.tolist()
    assert steps.are_rejected(np.empty(0, np.int64)).tolist() == []
    steps.add([Step(n, "base", 0, 0, {"name": f"b{n}"}) for n in range(1, 8)], durable=False)
    found = [steps.bases(["b2", "b7", "b3", "b9"], size=size) for size in (2, 100)]
    assert [step.number for step in found[0]] == [2, 3, 7]
    assert found[0] == found[1]


def test_old_events_expire(url):
    now = [0.0]
    store = FeedbackStore(url, retention_days=1, clock=lambda: now[0])
    store.append(events(4))
    now[0] = 2 * 86400
    store.append(events(4, "n"))
    assert store.expire(until=3) == 3
    assert store.read().seq.tolist() == [4, 5, 6, 7, 8]
    store.close()


def test_a_full_disk(store, tmp_path):
    store.append(events(10))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = max(file.stat().st_size for file in tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
    try:
        with pytest.raises(StoreError, match=r"feedback.db: .*Nothing was stored by this call"):
            store.append(events(3000, "big", context={"note": "x" * 100}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(store.read()) == 10
    assert store.append(events(12)).seq == list(range(1, 13))
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_locked_and_a_read_only_database(store, tmp_path):
    store.append(events(3))
    path = tmp_path / "feedback.db"
    impatient = FeedbackStore(f"sqlite:///{path}?timeout=0.05")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        impatient.append(events(1, "n"))
    assert len(impatient.read()) == 3  # readers do not wait
    other.execute("ROLLBACK")
    other.close()
    assert impatient.append(events(1, "n")).seq == [4]
    impatient.close()
    frozen = FeedbackStore(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StoreError, match="readonly"):
        frozen.append(events(1, "m"))
    assert len(frozen.read()) == 4
    frozen.close()


def test_a_store_of_another_version_is_refused(store, url, tmp_path):
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        connection.execute("update counter set value = 99 where name = 'version'")
    connection.close()
    with pytest.raises(StoreError, match="version 99"):
        FeedbackStore(url)


def test_postgres(postgres):
    stores = [FeedbackStore(postgres, batch_size=50) for _ in range(4)]
    at, seen, threads = stores[3].last_seq(), [], []

    def send(place):
        for part in range(20):
            stores[place].append(events(5, f"{place}-{part}-") + events(3, f"shared-{part}-"))

    for place in range(3):
        threads.append(threading.Thread(target=send, args=(place,)))
        threads[-1].start()
    is_last = False
    while not is_last:  # a reader that has seen a number has seen all before it
        is_last = not any(thread.is_alive() for thread in threads)
        batch = stores[3].read(at, 1000)
        assert batch.seq.tolist() == list(range(at + 1, at + 1 + len(batch)))
        at += len(batch)
        seen += [event.event_id for event in batch.events]
    assert len(seen) == len(set(seen)) == 20 * (3 * 5 + 3)
    shown = {"list_id": "l", "user_id": "Zoë", "items": ["a", 3], "scores": [2.0, 1.0]}
    assert stores[0].append_lists([shown]) == 1
    assert stores[1].shown("l").items == ["a", 3]
    assert stores[0].forget([0, 1, 2]).n_users == 3
    for store in stores:
        store.close()
