"""New items: stored in the log, learned in their place, and recommended without an event."""

import pandas as pd
import pytest

from sklearn_recft import BayesianMFRecommender, PopularityRecommender
from sklearn_recft.loop._items import check_stored_items
from sklearn_recft.model_selection import Guard
from sklearn_recft.persistence import save
from sklearn_recft.serving import Appended, Client, FeedbackStore, Loop, ServiceError, replay
from tests.serving.http_service import header, running, secured

FEEDBACK = {"click": 1.0, "skip": 0.0}
NEW = [{"item_id": "oat", "price": 2.0}, {"item_id": "soy", "price": 9.0}]


@pytest.fixture(scope="module")
def fitted():
    X = pd.DataFrame({"user_id": list("aabbccdd") * 3, "item_id": list("xyxzyzxw") * 3})
    X["timestamp"] = range(24)
    items = pd.DataFrame({"item_id": list("xyzw"), "price": [1.0, 2.0, 3.0, 4.0]})
    model = BayesianMFRecommender(n_factors=2, max_epochs=2, random_state=0)
    return model.fit(X, [1.0, 0.0, 1.0] * 8, items=items)


@pytest.fixture
def store(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
    yield store
    store.close()


def events(n, start=0, user="a"):
    return [
        {"user_id": user, "item_id": "xyzw"[j % 4], "kind": ("click", "skip")[j % 2]}
        for j in range(start, start + n)
    ]


def feed(loop, given):
    assert loop.wait(loop.submit(given).seq[-1], 60)


def put(loop, given):
    seq = loop.add_items(given).seq[-1]
    assert loop.wait(seq, 60)
    return seq


def digest(loop, tmp_path):
    with loop.reading() as view:
        return save(view.model, tmp_path / "digest")


def known(loop):
    with loop.reading() as view:
        return set(view.model.item_ids_)


def test_a_replay_learns_items_and_events_in_the_same_order(fitted, store, tmp_path):
    folder = tmp_path / "models"
    options = {"feedback": FEEDBACK, "poll_seconds": 0.01}
    with Loop(fitted, store, folder, **options) as loop:
        feed(loop, events(3))
        seq = put(loop, NEW[:1])
        found = loop.recommend(["nobody"], 5, exclude_seen=False)
        assert "oat" in found.items[0]
        with Loop(None, store, folder, follow=True, **options) as follower:
            again = {**NEW[0], "price": 3.0}  # a known item
            assert loop.add_items([NEW[1], again]).duplicates == 0
            assert loop.add_items(NEW) == Appended([seq, seq + 1], 2) == loop.add_items(NEW)
            feed(loop, events(4, 10))
            put(loop, pd.DataFrame({"item_id": ["rye"], "price": [float("nan")]}))
            assert follower.wait(loop.seq, 60)
            assert digest(follower, tmp_path) == digest(loop, tmp_path)
        expected = digest(loop, tmp_path)
        verbs = [step.verb for step in loop._learner.steps.after(0)]
        assert {"add_items", "partial_fit"} <= set(verbs)
        assert save(replay(store, folder, feedback=FEEDBACK), tmp_path / "again") == expected
    with Loop(None, store, folder, **options) as loop:
        assert digest(loop, tmp_path) == expected


def test_items_survive_rollback_update_guard_and_erased_users(fitted, store, tmp_path):
    folder = tmp_path / "models"
    with Loop(fitted, store, folder, feedback=FEEDBACK) as loop:
        loop.snapshot()
        feed(loop, events(4, user="eve"))
        put(loop, NEW)
        feed(loop, events(4, 10))
        loop.forget(["eve"])
        assert {"oat", "soy"} <= known(loop)
        loop.promote(loop.models()[0].name)
        assert {"oat", "soy"} <= known(loop)
        loop.update("fit")
        assert {"oat", "soy"} <= known(loop)
        put(loop, [{"item_id": "rye", "price": 1.0}])
        feed(loop, events(4, 20))
        loop.update("partial_fit", last=3)
        assert "rye" in known(loop)
        expected = digest(loop, tmp_path)
    with Loop(None, store, folder, feedback=FEEDBACK) as loop:
        assert digest(loop, tmp_path) == expected
    assert save(replay(store, folder, feedback=FEEDBACK), tmp_path / "again") == expected


def test_a_guard_compares_on_events_alone(fitted, store, tmp_path):
    with Loop(fitted, store, tmp_path / "models", feedback=FEEDBACK, guard=Guard()) as loop:
        feed(loop, events(8))
        loop.update("fit")
        put(loop, NEW)
        feed(loop, events(4, 10))
        health = loop.health()
        assert (health.error, health.rejected, health.forget_pending) == (None, 0, 0)
        assert {"oat", "soy"} <= known(loop)


def test_items_that_are_refused(fitted, store, tmp_path):
    loop = Loop(PopularityRecommender(), store, tmp_path / "a", feedback=FEEDBACK)
    with (
        loop,
        pytest.raises(ValueError, match="Recommender has no add_items: it knows an item"),
    ):
        loop.add_items(NEW)
    for wrong in ([{"price": 1}], [{"item_id": 1.5}], ["oat"], [{"item_id": "a", "x": {"y": 1}}],
                  [{"item_id": "a", "x": float("inf")}], [{"item_id": "a", "x": "y" * 70_000}],
                  [{"item_id": "a", 3: 1}], "oat"):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match="item"):
            check_stored_items(wrong)
    assert store.last_seq() == 0


def test_an_item_that_the_model_refuses_is_set_aside(fitted, store, tmp_path):
    with Loop(fitted, store, tmp_path / "models", feedback=FEEDBACK) as loop:
        put(loop, [{"item_id": "bad", "price": [1.0, 2.0]}])
        put(loop, NEW)
        assert loop.health().rejected == 1
        assert known(loop) >= {"oat", "soy"}
        assert "bad" not in known(loop)


def test_old_events_expire_and_items_stay(fitted, tmp_path):
    now = [1e9]
    store = FeedbackStore(
        f"sqlite:///{tmp_path}/f.db", durable=False, retention_days=1, clock=lambda: now[0]
    )
    with Loop(fitted, store, tmp_path / "models", feedback=FEEDBACK, keep=1) as loop:
        feed(loop, events(2))
        put(loop, NEW)
        now[0] += 3 * 86_400
        loop.snapshot()
        assert [event.item_id for event in store.read(0).events] == ["oat", "soy"]
    store.close()


def test_a_user_that_is_still_to_be_erased_is_counted(fitted, store, tmp_path, monkeypatch):
    with Loop(fitted, store, tmp_path / "models", feedback=FEEDBACK) as loop:
        feed(loop, events(2))
        monkeypatch.setattr(store, "forget", lambda ids: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.forget(["a", "b"])
        assert loop.health().forget_pending == 2
        monkeypatch.undo()
    with Loop(None, store, tmp_path / "models", feedback=FEEDBACK) as loop:
        assert loop.health().forget_pending == 0


# ------------------------------------------------------------------------------ HTTP


def test_items_that_a_rollback_refused_can_be_sent_again(fitted, store, tmp_path):
    with Loop(fitted, store, tmp_path / "models", feedback=FEEDBACK) as loop:
        new = [{"item_id": "fig", "price": 2.0}]  # the model of the module has the others
        name = loop.snapshot()
        put(loop, new)
        loop.rollback(name)
        assert "fig" not in known(loop)
        put(loop, new)
        assert loop.add_items(new).duplicates == 1
        assert "fig" in known(loop)


def test_items_by_http(fitted, tmp_path):
    with secured(tmp_path, model=fitted, loop_options={"feedback": FEEDBACK}) as (http, keys):
        http.headers.update(header(keys.all))
        client = Client("http://127.0.0.1", key=keys.all)
        client._http = http
        seq = client.add_items(pd.DataFrame(NEW))
        assert seq == 2
        found = client.recommend(["nobody"], n_recommendations=6, min_seq=seq)
        assert {"oat", "soy"} <= set(found.items[0])
        assert client.add_items(pd.DataFrame(NEW)) == 2
        answer = http.put(
            "/v1/items", json={"items": [{"item_id": "oat", "features": {"price": 2}}]}
        )
        assert answer.json() == {"seq": 1, "accepted": 0, "duplicates": 1}
        assert client.add_items([{"item_id": 7}]) == 3
        for wrong in ({"item_id": "a", "user_id": "b"}, {"item_id": True}, {"text": "a"},
                      {"item_id": "a", "embedding": ["x"]},
                      {"item_id": "a", "features": {"item_id": "b"}},
                      {"item_id": "a", "features": {"text": "b"}}):  # fmt: skip
            answer = http.put("/v1/items", json={"items": [wrong]})
            assert answer.status_code == 422, wrong
        answer = http.put("/v1/items", json={"items": [{"item_id": "a"}] * 1001})
        assert answer.status_code == 413


def test_a_model_that_knows_items_by_events_alone_says_so(tmp_path):
    with running(tmp_path) as http:
        answer = http.put("/v1/items", json={"items": [{"item_id": "oat"}]})
        assert answer.status_code == 422
        assert "first event" in answer.json()["detail"]
        client = Client("http://127.0.0.1")
        client._http = http
        with pytest.raises(ServiceError, match="first event"):
            client.add_items([{"item_id": "oat"}])
