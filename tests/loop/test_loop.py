"""The loop: what it learns is a function of the log, whatever happens to the process."""

import copy
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft import (
    EASERecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.compression import compress
from sklearn_recft.loop._events import Event, EventBatch
from sklearn_recft.loop._rows import RowMaker, teach
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.loop._steps import StepLog
from sklearn_recft.model_selection import Guard
from sklearn_recft.persistence import save
from sklearn_recft.serving import (
    FeedbackStore,
    Loop,
    NotRunningError,
    QueueFullError,
    ServingError,
    StoreError,
    replay,
)

FEEDBACK = {"click": 1, "purchase": 3, "skip": 0}


def factors(**options):
    return IncrementalMFRecommender(n_factors=4, random_state=0, **options)


def events(n, start=0, seed=0, **more):
    rng = np.random.default_rng([seed, start])
    users, items = rng.integers(20, size=n).tolist(), rng.integers(15, size=n).tolist()
    kinds = [list(FEEDBACK)[k] for k in rng.integers(3, size=n)]
    return [
        {
            "event_id": f"e{start + j}",
            "user_id": u,
            "item_id": f"i{i}",
            "kind": k,
            "timestamp": 1e9 + start + j,
            **more,
        }
        for j, (u, i, k) in enumerate(zip(users, items, kinds, strict=True))
    ]


@pytest.fixture
def store(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


def digest(loop, tmp_path):
    """Return the digest of the model of a loop, or of a model."""
    if not isinstance(loop, Loop):
        return save(loop, tmp_path / "digest")
    with loop.reading() as view:
        return save(view.model, tmp_path / "digest")


def feed(loop, given):
    seq = loop.submit(given).seq[-1]
    assert loop.wait(seq, 60)
    return seq


def abandon(loop):
    """End the threads of a loop as the end of the process does: nothing more is saved."""
    loop._running = False
    loop._wake()
    loop._thread.join()
    loop._committer.stop()
    loop._lock.release()


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_new_files_are_those_of_their_owner_alone(tmp_path):
    before = os.umask(0o022)
    try:
        store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
        with Loop(PopularityRecommender(), store, tmp_path / "models") as loop:
            feed(loop, events(3))
            loop.snapshot()
            paths = [path for path in tmp_path.rglob("*") if path.name != "LOCK"]
            rights = {path: path.stat().st_mode & 0o777 for path in paths}
        store.close()
    finally:
        os.umask(before)
    assert {"feedback.db-wal", "STORE"} <= {path.name for path in paths}
    models = [path for path in paths if path.parent.name[:1].isdigit()]
    assert {rights[path] for path in models} == {0o600}
    for path in (tmp_path / "models", *(tmp_path / "models").rglob("models")):
        assert rights[path] == 0o700, path
    assert {rights[path] for path in tmp_path.glob("feedback.db*")} == {0o600}
    assert {rights[tmp_path / "models" / name] for name in ("STORE", "WRITER")} == {0o600}


def test_a_click_changes_the_next_list(store, folder):
    with Loop(PopularityRecommender(), store, folder) as loop:
        feed(loop, [{"user_id": 1, "item_id": "a"}, {"user_id": 2, "item_id": "b", "value": 0.5}])
        before = loop.recommend(["ann"], 1)
        seq = feed(loop, [{"user_id": 2, "item_id": "b", "kind": "purchase"}])
        after = loop.recommend(pd.DataFrame({"user_id": ["ann"]}), 1)
        assert (before.items.tolist(), after.items.tolist()) == ([["a"]], [["b"]])
        assert (before.seq, after.seq, loop.seq) == (2, seq, seq)
        assert loop.predict([[1, "a", 0.0]]).shape == (1,)
    assert store.shown(before.list_ids[0]).items == ["a"]
    assert store.shown(after.list_ids[0]).user_id == "ann"
    with pytest.raises(NotRunningError, match="not running"):
        loop.submit(events(1))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (factors(), {}),
        (factors(replay_size=10), {"learn": "chunk", "chunk_size": 30, "chunk_seconds": 0.0}),
        (EASERecommender(reg=1.0, half_life=1e-3), {"learn": "observe"}),
        (IncrementalMFClassifier(n_factors=4, random_state=0), {}),
        (
            RealtimeTransformerRecommender(max_epochs=1, max_history=5, width=8, random_state=0),
            {"learn": "observe"},
        ),
    ],
)
def test_restart_and_replay_equal_a_run_without_interruption(
    model, options, store, folder, tmp_path, monkeypatch
):
    options["feedback"] = {"click": 1, "purchase": 1, "skip": 0}
    first = [[e["user_id"], e["item_id"], e["timestamp"]] for e in events(60, seed=9)]
    model.fit(np.array(first, object), np.arange(60) % 2)
    loop = Loop(model, store, folder, snapshot_every=70, **options).start()
    for start in range(0, 200, 25):
        feed(loop, events(25, start))
    uninterrupted = digest(loop, tmp_path)
    give_up = time.monotonic() + 20
    while not loop.health().snapshot_seq and time.monotonic() < give_up:
        time.sleep(0.01)  # the thread that learns saves it
    assert loop.health().snapshot_seq > 0
    abandon(loop)
    with Loop(None, store, folder, **options) as loop:
        assert (loop.seq, digest(loop, tmp_path)) == (200, uninterrupted)
    monkeypatch.setattr("sklearn_recft.loop._learner.PAGE", 30)
    clean = replay(store, folder, feedback=options["feedback"])
    assert digest(clean, tmp_path) == uninterrupted


MF = IncrementalMFRecommender
PAIRS = [[1, 7], [2, 7], [2, 8], [1, 8]]


@pytest.mark.parametrize(
    ("model", "y", "feedback", "message"),
    [
        (PopularityRecommender(), None, {"click": 1}, "without y.*'click'.*Give feedback=None"),
        (PopularityRecommender(), [1, 2, 1, 3], None, "with y.*Give a dict"),
        (IncrementalMFClassifier(), [0, 1, 0, 1], {"click": 1, "buy": 3}, "'buy'.*=3.0.*[0, 1]"),
        (IncrementalMFClassifier(), list("anan"), {"click": "y"}, "'click'.*='y'.*'a', 'n'"),
        (IncrementalMFClassifier(), None, {"a": 0, "b": 1, "c": 2}, "two labels, and these are 3"),
        (MF(loss="log_loss"), [0, 1, 0, 1], {"buy": 3}, "'buy'.*=3: .*0 to 1"),
        (MF(), [0, 1, 0, 1], {"buy": "yes"}, "'buy'.*'yes'.*Give a number"),
    ],
)
def test_feedback_that_the_model_cannot_learn_is_refused_at_the_start(
    model, y, feedback, message, store, folder
):
    if y is not None or not hasattr(model, "predict_proba"):
        model.fit(PAIRS, y)
    loop = Loop(model, store, folder, feedback=feedback)
    assert loop.feedback == feedback
    with pytest.raises(ValueError, match=f"feedback.*{message}"):
        loop.start()
    assert store.last_seq() == 0
    assert loop.is_new
    if feedback is not None:
        with pytest.raises(TypeError):
            loop.feedback["click"] = 2.0


def test_the_loop_equals_direct_calls(store, folder):
    given = events(90)
    with Loop(factors(), store, folder) as loop:
        for start in range(0, 90, 30):
            feed(loop, given[start : start + 30])
        X = np.array([[e["user_id"], e["item_id"], e["timestamp"]] for e in given], object)
        found = loop.predict(X)
    direct = factors()
    direct.partial_fit_predict(X, np.array([FEEDBACK[e["kind"]] for e in given], float))
    assert_array_equal(found, direct.predict(X))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("kind", [IncrementalMFRecommender, IncrementalMFClassifier])
def test_single_events_are_learned_to_the_bit_as_by_the_model(kind, width, tmp_path, monkeypatch):
    """Rows of new ids, of other types, of bad values and without feedback take the slow way."""
    given = events(80, seed=3, value=None)
    X = np.array([[e["user_id"], e["item_id"], e["timestamp"]] for e in given], object)[:, :width]
    model = kind(n_factors=4, random_state=0).fit(X, np.arange(80) % 2)
    verb = "partial_fit_predict" + ("_proba" if kind is IncrementalMFClassifier else "")
    slow, rows = copy.deepcopy(model), RowMaker({"click": 1, "purchase": 1, "skip": 0})
    log = [Event(**e) for e in events(60, 100, seed=4)]
    log[20:20] = [Event("new", 99, "new", 2e9), Event("bad", 1, "i1", 2e9, value=1e30)]
    log[40:40] = [Event("other", "text", "i1", 2e9), Event("none", 1, "i1", 2e9, kind="view")]
    n_calls, found, expected, refused = [], [], [], []
    call = getattr(kind, verb)
    counted = lambda self, *given: n_calls.append(1) or call(self, *given)  # noqa: E731
    for seq, event in enumerate(log):
        batch = EventBatch(np.array([seq]), [event])
        with monkeypatch.context() as patch:
            patch.setattr(kind, verb, counted)
            refused += teach(model, verb, batch, rows, found)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = call(slow, *rows.make(slow, batch))
        except ValueError:
            continue
        expected.append(answer if answer.ndim == 1 else answer[:, 1])
    assert_array_equal(np.concatenate([p for _, p in found]), np.concatenate(expected))
    assert digest(model, tmp_path) == digest(slow, tmp_path)
    assert [log[seq].event_id for seq in refused] == ["bad", "none"]
    assert len(n_calls) < 10 < len(log)


def test_context_comes_by_name(store, folder, tmp_path):
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "hour": [5.0, 6.0]})
    with Loop(factors().fit(X, [1, 2]), store, folder) as loop:
        feed(
            loop,
            [{"user_id": 1, "item_id": 4, "context": {"hour": 7}}, {"user_id": 1, "item_id": 4}],
        )
        assert loop.health().rejected == 1
    array = X.assign(timestamp=0.0)[["user_id", "item_id", "timestamp", "hour"]].to_numpy()
    with pytest.raises(ValueError, match="fit it on a data frame"):
        Loop(factors().fit(array, [1, 2]), store, tmp_path / "other").start()


def test_rows_that_the_model_refuses_are_set_aside(store, folder, tmp_path):
    options = {"learn": "chunk", "chunk_seconds": 0.0}
    loop = Loop(factors(), store, folder, **options).start()
    bad = events(40)
    bad[7]["kind"] = bad[30]["kind"] = "unknown"
    feed(loop, bad)
    health = loop.health()
    assert (health.rejected, health.n_learned, health.error) == (2, 38, None)
    expected = digest(loop, tmp_path)
    abandon(loop)
    reasons = loop._learner.steps.rejected()
    assert sorted(reasons) == [8, 31]
    assert "kind='unknown' has no feedback" in reasons[8]
    with Loop(None, store, folder, **options) as loop:  # they are refused again, and counted once
        assert (digest(loop, tmp_path), loop.health().rejected) == (expected, 2)


@pytest.mark.parametrize("damage", ["model", "MANIFEST"])
def test_a_damaged_snapshot_falls_back_one(damage, store, folder, tmp_path):
    loop = Loop(factors(), store, folder, snapshot_every=50).start()
    for start in range(0, 200, 50):
        feed(loop, events(50, start))
    expected, newest = digest(loop, tmp_path), loop.models()[-1]
    abandon(loop)
    path = next((folder / "models" / newest.name).glob(f"{damage}*"))
    path.write_bytes(path.read_bytes()[:-20])
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == expected
        assert list(loop.health().damaged) == [newest.name]
    for path in folder.rglob("*.json"):
        path.write_bytes(b"{")
    with pytest.raises(ServingError, match="No saved model can be read"):
        Loop(None, store, folder).start()


def test_a_folder_and_a_store_belong_together(store, folder, tmp_path):
    with Loop(factors(), store, folder) as loop:
        feed(loop, events(20))
        with pytest.raises(ServingError, match="another loop writes"):
            Loop(None, store, folder).start()
    other = FeedbackStore(f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(ServingError, match="do not belong together"):
        Loop(factors(), other, folder).start()
    with pytest.raises(ServingError, match="holds no model yet"):
        Loop(None, other, tmp_path / "empty").start()
    other.close()


class SlowStore(FeedbackStore):
    """A store whose commits wait, or fail."""

    def __init__(self, url):
        super().__init__(url, durable=False)
        self.may_commit = threading.Event()
        self.error = None

    def append_all(self, groups, also=None):
        self.may_commit.wait()
        if self.error:
            raise self.error
        return super().append_all(groups, also)


def test_a_full_queue_and_a_store_that_fails(folder, tmp_path):
    store = SlowStore(f"sqlite:///{tmp_path}/slow.db")
    with Loop(PopularityRecommender(), store, folder, queue_size=10) as loop:
        first = loop.submit_later(events(3))
        while loop.health().queue:
            pass  # the thread takes it
        waiting = [loop.submit_later(events(5, 5 * k)) for k in (1, 2)]
        with pytest.raises(QueueFullError, match=r"10 events wait .* the queue holds 10"):
            loop.submit(events(1, 50))
        store.may_commit.set()
        assert [len(future.result().seq) for future in (first, *waiting)] == [3, 5, 5]
        store.error = StoreError("disk full")
        with pytest.raises(StoreError, match="disk full"):
            loop.submit(events(1, 60))
        assert loop.health().error == "disk full"
        store.error = None
        assert loop.submit(events(1, 60)).seq == [14]
        assert loop.health().error is None
    store.close()


def test_other_processes_follow(store, folder, tmp_path):
    with Loop(factors(), store, folder, snapshot_every=40) as loop:
        feed(loop, events(30))
        with Loop(None, store, folder, follow=True, poll_seconds=0.005) as follower:
            for start in (30, 60, 90):
                seq = feed(loop, events(30, start))
            assert follower.wait(seq, 30)
            assert digest(follower, tmp_path) == digest(loop, tmp_path)
            assert follower.recommend([1], 2).seq == seq
            for call in (follower.snapshot, follower.rollback, lambda: follower.submit(events(1))):
                with pytest.raises(NotRunningError, match="follows another process"):
                    call()
            loop.forget([1])
            seq = feed(loop, events(1, 500))
            assert follower.wait(seq, 30)
            assert digest(follower, tmp_path) == digest(loop, tmp_path)


def test_readers_never_see_half_a_change(store, folder):
    failures, done = [], threading.Event()

    def read(loop):
        while not done.is_set():
            found = loop.recommend(range(20), 5, remember=False, exclude_seen=False)
            if not np.isfinite(found.scores).all() or (np.diff(found.scores) > 0).any():
                failures.append(found)

    with Loop(factors(), store, folder) as loop:
        feed(loop, events(200))
        readers = [threading.Thread(target=read, args=(loop,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        for start in range(1000, 3000, 40):  # new users and items all the time
            given = [
                {**e, "user_id": start + j, "item_id": f"n{start + j}"}
                for j, e in enumerate(events(40, start))
            ]
            loop.submit(given)
        loop.wait(2200)
        done.set()
        for reader in readers:
            reader.join()
    assert not failures


def test_a_loop_on_postgres(postgres, folder, tmp_path):
    store = FeedbackStore(postgres)
    with Loop(factors(), store, folder, after=store.last_seq(), snapshot_every=40) as loop:
        for start in range(0, 90, 30):
            feed(loop, events(30, start, context={"note": "n"}))
        feed(loop, [{"user_id": 1, "item_id": "i1", "kind": "unknown"}])
        loop.forget([3])
        loop.rollback()
        feed(loop, events(10, 90))
        expected = digest(loop, tmp_path)
        assert loop.health().rejected == 1
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == expected
    assert digest(replay(store, folder, feedback=FEEDBACK), tmp_path) == expected
    store.close()


# ---------------------------------------------------------------------- versions


def first():
    """Return a model that knows all users and items."""
    X = [[u, f"i{i}", 0.0] for u in range(20) for i in range(15)]
    return factors(max_epochs=1).fit(np.array(X, object), np.arange(300) % 4)


def test_rollback_leaves_out_a_range_and_promote_releases_it(store, folder, tmp_path):
    with Loop(first(), store, folder) as loop:
        feed(loop, events(50))
        good = loop.snapshot()
        feed(loop, events(30, 50, seed=1))  # refused later on
        feed(loop, events(20, 80))
        everything = digest(loop, tmp_path)
        loop.rollback(good, refuse=(50, 80))
        feed(loop, events(20, 100))
        without = digest(loop, tmp_path)
        assert (loop.seq, loop.health().refused) == (120, ((50, 80),))
    clean = first()
    rows = [e for e in store.read(0, 200).events if not 50 <= int(e.event_id[1:]) < 80]
    X = np.array([[e.user_id, e.item_id, e.timestamp] for e in rows], object)
    clean.partial_fit_predict(X, np.array([FEEDBACK[e.kind] for e in rows], float))
    assert digest(clean, tmp_path) == without
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == without
        loop.promote(good, release=True)
        assert (loop.seq, loop.health().refused) == (120, ())
        full = digest(loop, tmp_path)
        assert full not in (everything, without)
        name = loop.rollback()
        assert [one.live for one in loop.models() if one.name == name and one.base] == [True]
        with pytest.raises(ValueError, match="There is no model"):
            loop.promote("000000000000-00000000")
        with pytest.raises(ValueError, match="refuse="):
            loop.rollback(good, refuse=(10, 60))


def tastes(n, start, sign=1.0):
    """Return ratings by a taste that can be learned; ``sign`` -1 reverses them."""
    rng = np.random.default_rng(start)
    users, items = rng.integers(20, size=n).tolist(), rng.integers(15, size=n).tolist()
    return [
        {
            "event_id": f"t{start + j}",
            "user_id": u,
            "item_id": i,
            "value": 3 + sign * 2 * (1 if (u + i) % 2 else -1),
        }
        for j, (u, i) in enumerate(zip(users, items, strict=True))
    ]


def test_a_guard_decides_on_the_next_events(store, folder, tmp_path):
    rows = tastes(600, 0, sign=-1)
    X = np.array([[e["user_id"], e["item_id"], 0.0] for e in rows], object)
    model = factors(max_epochs=20).fit(X, [e["value"] for e in rows])
    with Loop(model, store, folder, guard=Guard(), snapshot_every=10_000) as loop:
        start = 1000

        def decide():
            nonlocal start
            assert loop.health().candidate == "watch"
            while loop.health().candidate and start < 9000:
                feed(loop, tastes(100, start))
                start += 100
            return loop.health()

        feed(loop, tastes(600, start))
        start += 600
        first = loop.health().model
        assert loop.update("fit") is None  # without what was before the log: better
        good = decide()
        assert good.decisions[-1]["verdict"] == "promote"
        assert good.model != first
        assert loop.update("fit", last=20) is None  # of few rows: worse
        bad = decide()
        assert (bad.decisions[-1]["verdict"], bad.model) == ("roll back", good.model)
        assert len(loop.models()) >= 2
        expected = digest(loop, tmp_path)
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == expected
    assert digest(replay(store, folder, feedback=FEEDBACK), tmp_path) == expected


def test_a_nightly_update_without_a_guard(store, folder, tmp_path):
    model = EASERecommender(reg=1.0).fit([["a", "x"], ["a", "y"]])
    with Loop(model, store, folder, learn="observe", feedback=None) as loop:
        feed(loop, [{"user_id": u, "item_id": i} for u in "bcd" for i in "xz"])
        assert loop.update("partial_fit") == loop.health().model
        with loop.reading() as view:
            weights = view.model.item_weights_
        expected = EASERecommender(reg=1.0).fit([["a", "x"], ["a", "y"]])
        expected.partial_fit([[u, i] for u in "bcd" for i in "xz"])
        assert_array_equal(weights, expected.item_weights_)
        with pytest.raises(ValueError, match="verb='adapt'"):
            loop.update("adapt")
        assert loop.update("fit", last=4) is not None
        assert loop.health().seq == 6


# ---------------------------------------------------------------------- privacy


def holds(folder, word):
    return [
        file for file in Path(folder).rglob("*") if file.is_file() and word in file.read_bytes()
    ]


def test_forget_erases_a_user_everywhere(store, folder, tmp_path):
    with Loop(PopularityRecommender(), store, folder, snapshot_every=20) as loop:
        for start in range(0, 80, 20):
            feed(loop, events(20, start))
            feed(loop, [{"user_id": "mallory-17", "item_id": "i1", "kind": "purchase"}])
        loop.submit([{"user_id": "mallory-17", "item_id": "i2", "kind": "mallory-17 again"}])
        loop.recommend(["mallory-17"], 2)
        feed(loop, events(1, 90))
        assert holds(tmp_path, b"mallory-17")
        receipt = loop.forget(["mallory-17"])
        assert (receipt.level, receipt.n_users, receipt.n_snapshots) == ("exact", 1, 5)
        assert (receipt.store["event"], receipt.store["rejected"]) == (5, 1)
        assert not holds(tmp_path, b"mallory-17")
        assert loop.export("mallory-17")["events"] == []
        feed(loop, events(5, 95))
        expected = digest(loop, tmp_path)
        clean = PopularityRecommender()
        rows = store.read(0, 200).events
        clean.fit(
            [[e.user_id, e.item_id, e.timestamp] for e in rows], [FEEDBACK[e.kind] for e in rows]
        )
        assert_array_equal(clean.popularity_, loop._learner.model.popularity_)
        assert len(loop.models()) == 7
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == expected
        loop.promote(loop.models()[2].name)
        assert "mallory-17" not in loop._learner.model.user_ids_


def test_an_erasure_that_was_interrupted_is_finished(store, folder, tmp_path, monkeypatch):
    loop = Loop(factors(), store, folder, snapshot_every=20).start()
    feed(loop, [{**e, "user_id": f"user-{e['user_id']}"} for e in events(60)])
    loop.snapshot()
    monkeypatch.setattr(loop._snapshots, "rewrite", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.forget(["user-3", "user-4"])
    abandon(loop)
    assert holds(folder, b"user-3")
    with Loop(None, store, folder) as loop:
        expected = digest(loop, tmp_path)
        assert not holds(tmp_path, b"user-3")
        assert "user-3" not in loop._learner.model.user_ids_
    with Loop(None, store, folder) as loop:
        assert digest(loop, tmp_path) == expected


def test_a_step_that_fails_half_way_is_done_once(store, folder, tmp_path, monkeypatch):
    with Loop(factors(), store, folder, poll_seconds=0.01) as loop:
        feed(loop, events(20))
        learn = IncrementalMFRecommender.partial_fit_predict
        failures = iter([MemoryError("none left"), MemoryError("none left")])

        def fail(self, *rows):
            for error in failures:
                raise error
            return learn(self, *rows)

        monkeypatch.setattr(IncrementalMFRecommender, "partial_fit_predict", fail)
        feed(loop, events(20, 20))
        monkeypatch.setattr(loop._snapshots, "rewrite", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.forget([3])
        monkeypatch.undo()
        feed(loop, [{**event, "user_id": 50} for event in events(20, 40)])
        assert 3 not in loop._learner.model.user_ids_
        expected = digest(loop, tmp_path)
        assert loop.health().error is None
    assert digest(replay(store, folder, feedback=FEEDBACK), tmp_path) == expected


def test_half_a_step_is_never_saved(store, folder, tmp_path, monkeypatch):
    learn, calls = IncrementalMFRecommender.partial_fit_predict, []

    def fail(self, *rows):
        calls.append(rows)
        if len(calls) == 1:
            raise ValueError("learn each half by itself")
        if len(calls) == 3:
            raise OSError("no memory for the second half")
        return learn(self, *rows)

    with Loop(factors(), store, folder, poll_seconds=60.0) as loop:
        feed(loop, events(20))
        with loop._turn:
            last = loop.submit(events(20, 20)).seq[-1]
            monkeypatch.setattr(IncrementalMFRecommender, "partial_fit_predict", fail)
            with pytest.raises(OSError, match="second half"):
                loop._learner.advance()
            loop.snapshot()
        assert loop.wait(last, 20)
        assert len(calls) > 3
        expected = digest(loop, tmp_path)
    assert digest(replay(store, folder, feedback=FEEDBACK), tmp_path) == expected
    with pytest.raises(NotRunningError):  # another loop may write the folder by now
        loop.snapshot()


@pytest.mark.parametrize("n_before", [0, 3])  # the learner writes the step, or the committer
def test_refused_rows_are_named_once_the_database_takes_them(n_before, store, folder, monkeypatch):
    with Loop(PopularityRecommender(), store, folder, poll_seconds=0.01) as loop:
        for one in events(n_before):
            feed(loop, [one])
        write, failures, called = loop._learner.steps.reject, [StoreError("locked")], []

        def reject(reasons):
            while failures:
                raise failures.pop()
            write(reasons)

        monkeypatch.setattr(loop._learner.steps, "reject", reject)
        last = n_before + 1
        loop.when(last, lambda: 1 / 0)  # it keeps no other call from its turn
        loop.when(last, lambda: called.append(loop.seq))
        feed(loop, [{"user_id": 1, "item_id": 2, "kind": "odd"}])
        with loop._turn:
            loop._settle()
        assert called == [last]
        assert list(loop._learner.steps.rejected()) == [last]


def test_the_error_of_a_write_lasts_until_another_one_succeeds(store, folder, monkeypatch):
    def fail(*rows, **options):
        raise StoreError("locked")

    with Loop(PopularityRecommender(), store, folder) as loop:
        feed(loop, events(5))
        with monkeypatch.context() as patch:
            patch.setattr(store, "append_all", fail)
            patch.setattr(store, "append_lists", fail)
            with pytest.raises(StoreError):
                loop.submit(events(1, 5))
        loop._committer.submit([]).result()  # it writes nothing
        assert loop.health().error == "locked"
        loop.recommend([1], 2)
        loop._committer.submit([]).result()  # with the list
        assert loop.health().error is None


def test_a_change_whose_snapshot_fails_is_done(store, folder, monkeypatch):
    with Loop(factors(), store, folder) as loop:
        feed(loop, events(20))
        save = loop._snapshots.save

        def full(*rows, base=False, **options):
            if not base:
                raise OSError("No space left on device")
            return save(*rows, base=base, **options)

        monkeypatch.setattr(loop._snapshots, "save", full)
        name = loop.rollback()  # an error here would make its caller go back once more
        assert loop.health().model == name
        assert loop.health().refused == ((0, 20),)
        monkeypatch.undo()


def test_a_reason_of_any_text_is_kept(store):
    seq = store.append(events(1)).seq[0]
    steps = StepLog(store.database)
    steps.reject({seq: "item \ud800\0 is odd"})
    assert steps.rejected() == {seq: "item \\ud800\\0 is odd"}


def test_an_exit_inside_a_model_ends_no_thread(store, folder, monkeypatch):
    learn, failures = PopularityRecommender.partial_fit, [SystemExit(1)] * 2

    def leave(self, *rows, **options):
        while failures:
            raise failures.pop()
        return learn(self, *rows, **options)

    with Loop(PopularityRecommender(), store, folder, poll_seconds=0.01) as loop:
        for one in events(3):
            feed(loop, [one])
        monkeypatch.setattr(PopularityRecommender, "partial_fit", leave)
        feed(loop, events(1, 3))
        assert not failures
        feed(loop, events(1, 4))


def test_a_text_is_no_list_of_users(store, folder):
    store.append([{"user_id": letter, "item_id": 1} for letter in "ann"])
    with Loop(PopularityRecommender(), store, folder) as loop:
        for forget in (store.forget, loop.forget):
            for wrong in ("ann", b"ann", {"a": 1}, 7):
                with pytest.raises(TypeError, match="user_ids must be a list of ids"):
                    forget(wrong)
        for last in (0, -1, "a", True):
            with pytest.raises(ValueError, match=r"last=.* an integer of at least 1"):
                loop.update("fit", last=last)
    assert store.counts()["events"] == 3


# ---------------------------------------------------------------------- kills


def test_killed_at_random_nothing_is_lost_or_doubled():
    script = Path(__file__).parents[2] / "benchmarks" / "serving" / "bench_serving.py"
    command = [sys.executable, str(script), "--task", "kills", "--n", "6"]  # it forks: no threads
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["round"] == 5
    assert found["n_stored"] >= found["n_acknowledged"] > 0


def test_a_model_that_only_serves_is_refused_before_it_is_saved(store, folder):
    X = np.array([[e["user_id"], e["item_id"], e["timestamp"]] for e in events(60)], object)
    fitted = factors().fit(X, np.ones(60))
    with pytest.raises(ValueError, match=r"learn='event': .* keep='serve'.* keep='learn'"):
        Loop(compress(fitted), store, folder).start()
    with Loop(compress(fitted, keep="learn"), store, folder) as loop:
        feed(loop, events(10))
        assert loop.health().rejected == 0


def test_a_model_that_only_serves_is_not_promoted(store, folder):
    X = np.array([[e["user_id"], e["item_id"], e["timestamp"]] for e in events(60)], object)
    fitted = factors().fit(X, np.ones(60))
    with Loop(fitted, store, folder) as loop:
        learner = loop._learner
        name = Snapshots(folder, 9).save(compress(fitted), 0, learner.step)
        feed(loop, events(10))
        before = loop.health().model, learner.last_number(), [one.name for one in loop.models()]
        for change in (loop.promote, loop.rollback):
            with pytest.raises(ValueError, match=r"partial_fit_predict: .* keep='serve'"):
                change(name)
        after = loop.health().model, learner.last_number(), [one.name for one in loop.models()]
        assert after == before
        feed(loop, events(10, 10))
        assert loop.health().rejected == 0


def test_calls_when_events_are_learned(tmp_path):
    store, done = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db"), []
    with Loop(factors(), store, tmp_path / "models") as loop:
        for name, seq in (("learned", 5), ("never", 5), ("beyond", 6)):
            cancel = loop.when(seq, lambda name=name: done.append(name))
            if name == "never":
                cancel()
        assert not done
        assert loop.wait(loop.submit(events(5)).seq[-1], 60)
        loop.when(5, lambda: done.append("at once"))
        assert done[-1] == "at once"
    assert sorted(done) == ["at once", "learned"]
    store.close()
