"""A store with a key: users are surrogates, and what is erased is unreadable in every copy."""

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.cli import main
from sklearn_recft.loop import _rekey as rekey
from sklearn_recft.loop._items import check_stored_items
from sklearn_recft.loop._steps import StepLog
from sklearn_recft.persistence import save
from sklearn_recft.preprocessing import SecretKey
from sklearn_recft.serving import FeedbackStore, Loop, ServingError, StoreError, change_key, replay

pytest.importorskip("cryptography")

KEY, OTHER = SecretKey(b"sixteen bytes or more"), SecretKey(b"another sixteen bytes")
FEEDBACK = {"click": 1, "purchase": 3, "skip": 0}


def events(n, start=0, user=None, **more):
    return [
        {
            "event_id": f"mail-{j}",
            "user_id": user or f"user-{j % 7}",
            "item_id": j * 3 % 11,
            "kind": list(FEEDBACK)[j % 3],
            "timestamp": 1e9 + j,
            **more,
        }
        for j in range(start, start + n)
    ]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/feedback.db"


@pytest.fixture
def store(url):
    store = FeedbackStore(url, batch_size=7, durable=False, key=KEY)
    yield store
    store.close()


def holds(folder, *words):
    """Return files that hold one of some words."""
    files = [file for file in Path(folder).rglob("*") if file.is_file()]
    return [file.name for file in files if any(word in file.read_bytes() for word in words)]


def rows(folder, query):
    with sqlite3.connect(folder / "feedback.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_events_come_back_as_they_were_and_are_not_in_the_file(store, url, tmp_path):
    given = [
        {"event_id": "of ann", "user_id": 7001234, "item_id": "7", "timestamp": 1e9 + 0.1},
        {"event_id": "of bob", "user_id": "7001234", "item_id": 2**70, "value": 0.1},
        {"event_id": "é", "user_id": "Zoë 猫\0", "item_id": -1, "context": {"note": "xyzzy é"}},
    ]
    plain = FeedbackStore(url.replace("feedback", "plain"), clock=lambda: 2e9)
    plain.append([*given, *events(40)])
    assert store.append([*given, *events(40)]) == (list(range(1, 44)), 0)
    assert store.append(events(45)) == ([*range(4, 49)], 40)
    for found in (store.read(), FeedbackStore(url, key=KEY).read(), store.fresh(0, 99)[0]):
        own, expected = found.events[:43], plain.read().events
        assert [one._replace(timestamp=0) for one in own] == [
            one._replace(timestamp=0) for one in expected
        ]
        assert [type(one.user_id) for one in own] == [type(one.user_id) for one in expected]
    plain.close()
    (tmp_path / "plain.db").unlink()
    codes = {row[0] for row in rows(tmp_path, "select user_id from event")}
    assert codes == {str(number) for number in range(1, 11)}
    words = (b"7001234", b"Zo\\u00eb", b"xyzzy", b"of ann", b"mail-", b"user-")
    assert not holds(tmp_path, *words)


def test_lists_and_exports(store):
    shown = {"list_id": "l", "user_id": "user-1", "items": ["a", 3], "scores": [2.0, 1.0]}
    assert store.append_lists([shown, {**shown, "list_id": "m", "user_id": "new"}]) == 2
    assert store.append_lists([shown]) == 0
    store.append(events(9, context={"note": "x"}))
    assert store.shown("l").user_id == "user-1"
    found = store.export("user-1")
    assert [one["event_id"] for one in found["events"]] == ["mail-1", "mail-8"]
    assert found["events"][0]["context"] == {"note": "x"}
    assert [(one["user_id"], one["item_id"]) for one in found["lists"]] == [
        ("user-1", "a"),
        ("user-1", 3),
    ]
    assert store.export("nobody") == {"user_id": "nobody", "events": [], "lists": []}
    store.forget(["user-1"])
    assert store.shown("l") is None
    assert store.shown("m").user_id == "new"


def test_who_is_erased_is_unreadable_in_a_copy_of_the_other_tables(store, url, tmp_path):
    store.append([*events(9), *events(5, 50, user="mallory", context={"note": "xyzzy"})])
    store.database.overwrite_deleted()
    shutil.copy(tmp_path / "feedback.db", tmp_path / "copy.db")
    secret = rows(tmp_path, "select * from subject where user_id = '8'")
    receipt = store.forget(["mallory", "nobody"])
    assert (receipt.n_users, receipt.removed) == (1, {"event": 5, "shown": 0, "rejected": 0})
    raw = (tmp_path / "feedback.db").read_bytes()
    assert len(secret) == 1
    assert not any(part.encode() in raw for part in secret[0][1:])
    # An older copy of the events comes back, and the subjects are those of now.
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        connection.execute(f"attach '{tmp_path}/copy.db' as old")
        connection.execute("insert or ignore into event select * from old.event")
    connection.close()
    with pytest.raises(StoreError, match=r"1 users .* not in the table subject.*forget\(\[\]\)"):
        store.read()
    assert store.export("mallory")["events"] == []
    assert store.forget([]).removed["event"] == 5
    assert len(store.read()) == 9
    # The user comes back as somebody new.
    store.append(events(1, 50, user="mallory"))
    assert rows(tmp_path, "select user_id from event where seq = 15") == [("9",)]
    assert store.read(9).events[0].user_id == "mallory"


def test_other_processes_do_not_write_under_a_key_that_is_gone(store, url):
    other = FeedbackStore(url, durable=False, key=KEY)
    for one in (store, other):
        one.append(events(3, user="ann"))
    store.forget(["ann"])
    other.append(events(3, user="ann"))
    for one in (store, other):
        assert [event.user_id for event in one.read().events] == ["ann"] * 3
    other.close()


def test_a_commit_that_fails_leaves_no_subject_behind(store, monkeypatch):
    def fail(*_):
        raise RuntimeError("before the commit")

    monkeypatch.setattr("sklearn_recft.loop._store.Counter", fail)
    with pytest.raises(RuntimeError, match="before"):
        store.append(events(3, user="ann"))
    monkeypatch.undo()
    store.append(events(3, user="ann"))
    assert FeedbackStore(store.database.name, key=KEY).read().events == store.read().events


def test_threads_share_subjects(store):
    threads = [
        threading.Thread(target=store.append, args=(events(40, 40 * place),)) for place in range(6)
    ]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    found = store.read()
    assert sorted(event.event_id for event in found.events) == sorted(
        f"mail-{j}" for j in range(240)
    )
    assert len({event.user_id for event in found.events}) == 7


def test_subjects_expire_with_their_rows(url, tmp_path):
    now = [1e9]
    store = FeedbackStore(url, retention_days=1, clock=lambda: now[0], key=KEY)
    store.append(events(4))
    now[0] += 2 * 86400
    store.append(events(4, 3))
    assert store.expire(until=3) == 3
    assert rows(tmp_path, "select count(*) from subject") == [(4,)]
    store.append(events(2, 20, user="user-1"))
    assert [e.user_id for e in store.read().events][-2:] == ["user-1"] * 2
    store.close()


def test_the_key_must_be_that_of_the_store(store, url, tmp_path, capsys):
    store.append(events(3))
    plain = f"sqlite:///{tmp_path}/plain.db"
    FeedbackStore(plain).close()
    for name, key, message in (
        (url, None, "feedback.db: its ids are under a key.*--store-key-file"),
        (url, OTHER, "key: .*feedback.db was made with another key"),
        (plain, KEY, "key: .*plain.db was made without one"),
        (plain, "NO_SUCH_VARIABLE", "no variable 'NO_SUCH_VARIABLE'"),
    ):
        with pytest.raises(ValueError, match=message):
            FeedbackStore(name, key=key)
    with pytest.raises(TypeError, match="not a bytes"):
        FeedbackStore(f"sqlite:///{tmp_path}/new.db", key=b"sixteen bytes or more")
    assert not (tmp_path / "new.db").exists()
    (tmp_path / "key").write_bytes(b"another sixteen bytes\n")
    command = ["serve", "--store", url, "--folder", str(tmp_path / "f"), "--store-key-file"]
    assert main([*command, str(tmp_path / "key")]) != 0
    assert "another key" in capsys.readouterr().err
    (tmp_path / "key").write_bytes(b"short\n")
    assert main([*command, str(tmp_path / "key")]) != 0
    assert "at least 16 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        "update event set context = 'AAAA' where seq = 2",
        "update event set context = null where seq = 2",
        "update event set context = (select context from event where seq = 9) where seq = 2",
        "update event set user_id = '1' where seq = 2",
        "update subject set sealed = 'x' where user_id = '2'",
        "update subject set sealed = (select sealed from subject where user_id = '1')"
        " where user_id = '2'",
    ],
)
def test_damaged_rows_are_named(damage, store, url, tmp_path):
    store.append(events(20))
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        connection.execute(damage)
    connection.close()
    other = FeedbackStore(url, key=KEY)
    with pytest.raises(StoreError, match=r"event 2|subject"):
        other.read()
    other.close()


def run(folder, key):
    """Serve, erase, refuse and restart; return digests of the model, and of a replay."""
    folder.mkdir()
    store = FeedbackStore(f"sqlite:///{folder}/feedback.db", durable=False, key=key)
    model, found = IncrementalMFRecommender(n_factors=4, random_state=0), []
    with Loop(model, store, folder / "models", snapshot_every=30, feedback=FEEDBACK) as loop:
        for start in range(0, 100, 20):
            assert loop.wait(loop.submit(events(20, start)).seq[-1], 60)
        loop.wait(loop.submit([{**events(1, 200)[0], "kind": "unheard of"}]).seq[-1], 60)
        loop.snapshot()  # after the step, with what it refused
        assert "unheard of" in loop._learner.steps.rejected()[101]
        loop.recommend(["user-5"], 2, exclude_seen=False)
        loop.rollback(refuse=(90, 95))
        receipt = loop.forget(["user-2"])
        assert receipt.store["event"] == 14
        loop.wait(loop.submit(events(9, 300)).seq[-1], 60)
        assert loop.health().error is None
    with Loop(None, store, folder / "models", feedback=FEEDBACK) as loop, loop.reading() as view:
        found.append(save(view.model, folder.parent / "digest"))
    model = replay(store, folder / "models", feedback=FEEDBACK)
    store.close()
    return [*found, save(model, folder.parent / "digest")]


def test_the_model_is_the_same_and_no_file_holds_an_id(tmp_path):
    digests = run(tmp_path / "plain", None) + run(tmp_path / "keyed", KEY)
    assert len(set(digests)) == 1
    assert holds(tmp_path / "plain", b"user-5")
    assert not holds(tmp_path / "keyed", b"user-", b"mail-")


def test_an_erasure_that_waits_names_nobody(tmp_path, monkeypatch):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False, key=KEY)
    with Loop(PopularityRecommender(), store, tmp_path / "models") as loop:
        loop.wait(loop.submit(events(20)).seq[-1], 60)
        monkeypatch.setattr(loop._snapshots, "rewrite", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.forget(["user-3"])
        assert loop.health().forget_pending == 1
        assert not holds(tmp_path, b"user-")
        monkeypatch.undo()
    with Loop(None, store, tmp_path / "models") as loop:
        assert loop.health().forget_pending == 0
    store.close()


def test_postgres(postgres, tmp_path):
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("create schema if not exists keyed"))
    engine.dispose()
    url = f"{postgres}&options=-csearch_path%3Dkeyed"
    store = FeedbackStore(url)
    store.append(events(30))
    store.append_lists([{"list_id": "l", "user_id": "user-1", "items": ["a", 3]}])
    expected = store.read().events, store.read_columns(3, 20), store.export("user-1")
    store.close()
    for old, new in ((None, OTHER), (OTHER, KEY)):
        assert change_key(url, tmp_path, key=old, new_key=new, size=4) == (30, 0)
    store = FeedbackStore(url, key=KEY)
    assert (store.read().events, store.export("user-1")) == (expected[0], expected[2])
    found = store.read_columns(3, 20).columns
    assert list(map(list, found)) == list(map(list, expected[1].columns))
    assert store.append(events(31)).duplicates == 30
    assert store.forget(["user-1"]).removed == {"event": 5, "shown": 2, "rejected": 0}
    assert {event.user_id for event in store.read().events} == {
        f"user-{j}" for j in (0, 2, 3, 4, 5, 6)
    }
    store.close()


# ------------------------------------------------------------------------------ another key


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """Return folders and contents of stores that a loop has used: without a key, and with one."""
    found = {}
    for key in (None, KEY):
        folder = tmp_path_factory.mktemp("used")
        store = FeedbackStore(f"sqlite:///{folder}/feedback.db", durable=False, key=key)
        model = IncrementalMFRecommender(n_factors=2, max_epochs=1, random_state=0)
        with Loop(model, store, folder / "models", feedback=FEEDBACK) as loop:
            loop.submit([*events(20), *events(1, 20, kind="unknown", context={"why": "secret"})])
            store.append_all([check_stored_items([{"item_id": "oat", "text": "oat milk"}])])
            assert loop.wait(store.last_seq(), 60)
            loop.snapshot()
            loop.recommend(["user-1", "user-2"], 3)
            loop.submit(events(3, 30))
            assert loop.wait(store.last_seq(), 60)
        store.close()
        found[key] = folder, contents(store.database.name, folder, key)
    return found


def contents(url, folder, key):
    """Return all that a store has, and the digest of the model of its log."""
    store = FeedbackStore(url, key=key)
    found = [
        store.read().events,
        store.counts(),
        StepLog(store.database).rejected(),
        [store.export(f"user-{j}") for j in range(7)],
        save(replay(store, folder / "models", feedback=FEEDBACK), f"{folder}-digest"),
    ]
    store.close()
    return found


@pytest.mark.parametrize(
    ("key", "end"),
    [(None, None), (KEY, None), (None, "save"), (KEY, "_steps"), (None, "commit"),
     (KEY, "sync_folder"), (None, "overwrite_deleted")],
)  # fmt: skip
def test_another_key_also_after_a_kill(key, end, used, tmp_path, monkeypatch):
    folder, expected = used[key]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    url, models = f"sqlite:///{tmp_path}/feedback.db", tmp_path / "models"
    assert [len(one) for one in expected[:3]] == [25, 4, 2]
    stale = FeedbackStore(url, key=key)
    if end is not None:
        owner = {"save": rekey.Snapshots, "_steps": rekey._Rewriting, "sync_folder": rekey,
                 "commit": rekey, "overwrite_deleted": type(stale.database)}[end]  # fmt: skip
        name, n_calls = {"commit": "_swap"}.get(end, end), []
        call, n_before = getattr(owner, name), {"save": 1, "sync_folder": 1}.get(end, 0)

        def kill(*given, **options):
            n_calls.append(given)
            if len(n_calls) > n_before:
                raise Killed
            return call(*given, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill)
            with pytest.raises(Killed):
                change_key(url, models, key=key, new_key=OTHER, size=4)
        for one in (key, OTHER):
            with pytest.raises((ServingError, ValueError), match="key"):
                Loop(None, FeedbackStore(url, key=one), models, feedback=FEEDBACK).start()
    done = change_key(url, models, key=key, new_key=OTHER, size=4)
    assert done.n_events == (25 if end in (None, "save", "_steps") else 0)
    assert contents(url, tmp_path, OTHER) == expected
    with pytest.raises(ValueError, match="key"):
        stale.append(events(1, 90))
    stale.close()
    with pytest.raises(ValueError, match="another key"):
        FeedbackStore(url, key=KEY)
    assert not holds(tmp_path, b"user-1", b"mail-1", b"secret")
    store = FeedbackStore(url, key=OTHER)
    with Loop(None, store, models, feedback=FEEDBACK) as loop:
        assert loop.health().damaged == {}
        assert loop.submit(events(1)).duplicates == 1
        loop.forget(["user-1"])
    store.close()


def test_another_key_by_the_command(used, tmp_path, capsys):
    shutil.copytree(used[KEY][0], tmp_path, dirs_exist_ok=True)
    for name, text in (("old", b"sixteen bytes or more"), ("new", b"another sixteen bytes")):
        (tmp_path / name).write_bytes(text)
    command = ["rekey", "--folder", str(tmp_path), "--store-key-file", str(tmp_path / "old")]
    assert main([*command, "--new-key-file", str(tmp_path / "old")]) == 1
    assert "the key that the store has" in capsys.readouterr().err
    assert main([*command, "--new-key-file", str(tmp_path / "new")]) == 0
    assert "25 events" in capsys.readouterr().out
    assert main(["rekey", "--folder", str(tmp_path / "none"), *command[3:], "--new-key-file",
                 str(tmp_path / "new")]) == 1  # fmt: skip
    assert "holds no store" in capsys.readouterr().err
