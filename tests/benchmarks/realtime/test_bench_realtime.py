"""The benchmark of the real-time transformer on small logs: what each row of it may know."""

import copy
import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.realtime import bench_realtime as bench
from benchmarks.realtime import blend as blends
from benchmarks.realtime import cost as costs
from benchmarks.realtime import log as logs
from benchmarks.realtime import stream as streams
from benchmarks.realtime.blend import blended_lists, standardized
from sklearn_recft.metrics import ndcg_at_k, recall_at_k

DAY = streams.DAY
PARAMS = {
    "max_epochs": 1, "max_history": 10, "width": 8, "dropout": 0.0,
    "net_params": {"batch_size": 256},  # few steps
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def shop(tmp_path_factory):
    """Six hundred purchases of 20 customers, who go round in circles of 20 products.

    Times are tied in pairs, over 40 days. One customer and one product come at the end alone.
    """
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": rng.integers(0, 20, 600)})
    place = frame.groupby("user_id").cumcount() + rng.integers(0, 2, 600)
    code = 20 * (frame["user_id"] % 2) + place % 20
    code[599] = 40
    frame.loc[597, "user_id"] = 20
    frame["item_id"] = code.astype(str) + "p"
    frame["timestamp"] = np.repeat(np.arange(300) * (40 * DAY // 300), 2)
    frame = frame.assign(quantity=1, invoice_no=np.arange(600))
    titles = pd.DataFrame({"item_id": [f"{j}p" for j in range(42)]})
    titles["title"] = [f"circle {j // 20} place {j % 20}" for j in range(42)]
    data = tmp_path_factory.mktemp("data")
    folder = data / "online-retail"
    folder.mkdir()
    frame.to_parquet(folder / "interactions.parquet")
    titles.to_parquet(folder / "items.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKLEARN_RECFT_DATA", str(data))
        yield


@pytest.fixture(scope="module")
def log():
    return logs.read("online-retail")


@pytest.fixture(scope="module")
def ours(log):
    """Return our model, fitted to the training events; tests change copies of it."""
    return logs.make_model(0, PARAMS).fit(log.split_in_time()[0])


class Follower:
    """Ranks what followed the user's last item most often, and keeps its training rows."""

    made: list["Follower"] = []
    trend_period_ = np.inf

    def __init__(self):
        self.trained_on, self.remembered, self.queried = [], [], []
        type(self).made.append(self)

    def fit(self, X, items=None):
        self.trained_on = [X]
        self.remembered = [X]
        return self

    def partial_fit(self, X):
        self.trained_on.append(X)
        return self.observe(X)

    def observe(self, X):
        assert not X.index.isin(pd.concat(self.remembered).index).any()  # nothing twice
        self.remembered.append(X)
        return self

    @property
    def user_ids_(self):
        return pd.concat(self.remembered)["user_id"].unique()

    @property
    def item_ids_(self):
        return pd.concat(self.remembered)["item_id"].unique()

    @property
    def n_items_(self):
        return len(self.item_ids_)

    def recommend(self, X, *, n_recommendations, exclude_seen):
        assert list(X.columns) == ["user_id", "timestamp"]
        learned, known = pd.concat(self.trained_on), pd.concat(self.remembered)
        self.queried.append((X, known))
        items = self.item_ids_
        after = learned.groupby("user_id")["item_id"].shift(-1)
        follows = pd.crosstab(learned["item_id"], after)
        follows = follows.reindex(index=items, columns=items, fill_value=0)
        popular = known["item_id"].value_counts()[items].to_numpy()
        lists = []
        for user, now in zip(X["user_id"], X["timestamp"], strict=True):
            own = known[(known["user_id"] == user) & (known["timestamp"] <= now)]["item_id"]
            score = follows.loc[own[-1:]].sum().to_numpy() if len(own) else popular
            # All else equal, what came into the catalogue last is first: nobody may miss it.
            score = np.where(exclude_seen & np.isin(items, own), -np.inf, score)[::-1]
            lists.append(items[::-1][np.argsort(-score, kind="stable")[:n_recommendations]])
        return np.array(lists), None


@pytest.fixture
def follower(monkeypatch):
    Follower.made = []
    for room in (streams, bench):
        monkeypatch.setattr(room, "make_model", lambda *_: Follower())
    return Follower


def one_by_one(model, events, exclude_seen):
    """Do what `query_and_observe` does, without its rounds."""
    lists = []
    for place in range(len(events)):
        event = events[place : place + 1]
        lists.append(logs.lists_of(model, event, exclude_seen)[0])
        model.observe(event)
    return np.array(lists)


def printed(capsys):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


# -------------------------------------------------------------------------- log


def test_events_are_in_the_order_of_time_and_of_the_file(log):
    assert len(log.events) == 600
    assert log.events["timestamp"].is_monotonic_increasing
    assert log.events.index.equals(pd.RangeIndex(600))
    again = bench.read("online-retail", n_users=5).events
    assert set(again["user_id"]) == set(range(5))
    own = log.events[log.events["user_id"] < 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, own)
    assert len(bench.read("online-retail", n_events=100).events) == 100


def test_the_last_is_asked_in_test_and_the_one_before_in_validation(log):
    for part, place in (("test", -1), ("validation", -2)):
        learned, queried = log.leave_last_out(part)
        own = queried.set_index("user_id")
        for user, events in log.events.groupby("user_id"):
            if len(events) < 1 - place:
                assert user not in own.index
                continue
            assert own.loc[user, "item_id"] == events["item_id"].iloc[place]
            kept = learned[learned["user_id"] == user]
            assert kept.index.equals(events.index[:place])


def test_levels_count_training_events():
    learned = pd.Series(list("a" * 20 + "b" * 19 + "c" * 5 + "d" * 4 + "e"))
    values = np.array([1.0, 0.5, 0.25, 0.1, 0.3, 0.0])
    found = logs.by_level(values, pd.Series(list("abcdef")), learned)
    assert [found[f"n of {level}"] for level in logs.LEVELS] == [1, 2, 2, 1]
    assert [found[f"ndcg of {level}"] for level in logs.LEVELS] == [0.0, 0.2, 0.375, 1.0]
    assert np.isnan(logs.by_level(values[:1], pd.Series(["a"]), learned)["ndcg of 0"])


def test_means_and_spread_of_seeds(log, capsys):
    figures = {0: {"ndcg": 0.2, "n_users": 5}, 1: {"ndcg": 0.5, "n_users": 5}}
    logs.report("next", log, [0, 1], lambda seed: iter([("ours", figures[seed])]))
    first, second, both = printed(capsys)
    assert (first["seed"], second["ndcg"]) == (0, 0.5)
    assert both["ndcg"] == 0.35
    assert both["ndcg_spread"] == 0.3
    assert (both["n_users"], both["n_seeds"]) == (5, 2)


# ------------------------------------------------------------------------- next


def test_next_learns_nothing_from_the_asked_event_on(log, follower):
    """Asked at the time of an event that no fit has met, nor what comes after it."""
    for part in ("test", "validation"):
        learned, queried = log.leave_last_out(part)
        [(name, found)] = bench.next_item(log, 0, {}, part, None, ["default"])
        [(queries, known)] = follower.made[-1].queried
        pd.testing.assert_frame_equal(known, learned)
        pd.testing.assert_frame_equal(queries, queried[["user_id", "timestamp"]])
        assert found["n_users"] == len(queried)
        assert 0 < found["ndcg"] < found["hit_rate"] <= 1
        assert name == "default"


def test_both_parts_of_one_fit_observe_in_between(log, follower):
    learned, between = log.leave_last_out("validation")
    before, last = log.leave_last_out("test")
    rows = dict(bench.next_item(log, 0, {}, "both", None, ["default"]))
    assert list(rows) == ["default, validation", "default, test"]
    [model] = follower.made
    pd.testing.assert_frame_equal(model.trained_on[0], learned)
    (first, known), (second, known_later) = model.queried
    assert len(model.trained_on) == 1
    assert known.index.equals(learned.index)
    assert set(known_later.index) == set(before.index)
    for queries, asked in ((first, between), (second, last)):
        pd.testing.assert_frame_equal(queries, asked[["user_id", "timestamp"]])
    assert rows["default, test"]["n_users"] == len(last)


def test_a_blend_ranks_unseen_items_by_both_scores(log, ours, monkeypatch):
    monkeypatch.setattr(blends, "_CHUNK", 4)
    learned, queried = log.leave_last_out("test")
    queried, items = queried[:6], np.unique(ours.item_ids_)
    every = {"n_recommendations": len(items), "exclude_seen": False}
    for seen in (None, learned):
        lists = blended_lists(ours, ours, 3.0, queried, seen)
        for place, (user, now) in enumerate(
            zip(queried["user_id"], queried["timestamp"], strict=True)
        ):
            (found,), (score,) = ours.recommend([[user, now]], **every)
            own = set() if seen is None else set(seen[seen["user_id"] == user]["item_id"])
            total = score + 3 * (score - score.mean()) / score.std()
            ranked = [item for _, item in sorted(zip(-total, found, strict=True))]
            assert lists[place].tolist() == [i for i in ranked if i not in own][:10]
    assert (standardized(np.full((2, 3), 7.0)) == 0).all()


def test_a_row_with_ease_knows_what_the_row_without_knows(log, ours, monkeypatch):
    known = []
    monkeypatch.setattr(bench, "lists_of", lambda _, queried, seen: np.zeros((len(queried), 10)))

    def lists(net, ease, weight, queried, seen):
        known.append((ease.n_items_, weight, seen))
        return np.zeros((len(queried), 10))

    monkeypatch.setattr(bench, "blended_lists", lists)
    learned, between = log.leave_last_out("validation")
    labels = [
        label
        for label, *_ in bench.lists_of_parts(
            log, copy.deepcopy(ours), learned, list(log.asked("both")[1:]), 0.1
        )
    ]
    assert labels == [", validation", ", validation + EASE", ", test", ", test + EASE"]
    both = pd.concat([learned, between])
    assert [n for n, *_ in known] == [learned["item_id"].nunique(), both["item_id"].nunique()]
    assert {weight for _, weight, _ in known} == {0.1}
    assert all(seen is None for *_, seen in known)  # purchases repeat


def test_of_variants_texts_need_a_backbone(log, follower):
    names = [name for name, _ in bench.next_item(log, 0, {}, "test", None, list(bench.VARIANTS))]
    assert names == list(bench.VARIANTS)[:-1]
    with_texts = bench.next_item(log, 0, {}, "test", "scratch", ["texts"])
    assert [name for name, _ in with_texts] == ["texts"]


# ---------------------------------------------------------- streams and timeline


def test_rounds_keep_the_order_of_a_user_unknown_users_and_new_items():
    events = pd.DataFrame({"user_id": list("aabbcabca"), "item_id": list("xyxyxxzxx")})
    events["timestamp"] = [10, 11, 12, 13, 14, 15, 16, 19, 20]
    # Known are a, b, x and y: c is a unknown in row 4, z is new in row 6.
    known = np.array(["a", "b"]), np.array(["x", "y"])
    found = streams.rounds(events, *known, np.inf)
    assert [rows.tolist() for rows in found] == [[0, 2], [1, 3], [4, 5], [6], [7, 8]]
    found = streams.rounds(events, *known, 10.0)  # with one more cut, for its trends
    assert [rows.tolist() for rows in found] == [[0, 2], [1, 3], [4, 5], [6], [7], [8]]
    [alone] = streams.rounds(events[:1], np.array([]), np.array([]), np.inf)
    assert alone.tolist() == [0]


def test_days_are_cut_at_midnight(log):
    found = streams.days(log.events)
    pd.testing.assert_frame_equal(pd.concat(found), log.events)
    assert all(day["timestamp"].floordiv(DAY).nunique() == 1 for day in found)
    assert len(found) == log.events["timestamp"].floordiv(DAY).nunique()


@pytest.mark.parametrize("model", ["follower", "ours"])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_rounds_answer_as_event_by_event(log, ours, model, exclude_seen):
    learned, later = log.split_in_time()
    later = later[-30:]  # with a midnight, an unknown user and a new item
    model = Follower().fit(learned) if model == "follower" else copy.deepcopy(ours)
    twin = copy.deepcopy(model)
    lists = streams.query_and_observe(model, later, exclude_seen)
    np.testing.assert_array_equal(lists, one_by_one(twin, later, exclude_seen))
    assert (lists[-1] != lists[0]).any()


def changed(events, row):
    """Return the events with other items from a row on."""
    events = events.copy()
    events.loc[events.index[row:], "item_id"] = events["item_id"].to_numpy()[row:][::-1]
    return events


@pytest.mark.parametrize("way", ["observe", "daily", "refit"])
@pytest.mark.parametrize("name", ["follower", "ours"])
def test_no_list_knows_an_event_at_or_after_its_own_place(log, ours, name, way):
    learned, later = log.split_in_time()
    row, later = 47, later[:80]  # of three days
    fitted = Follower().fit(learned) if name == "follower" else ours
    learn = {
        "observe": None,
        "daily": streams.learn_part,
        "refit": lambda dawn, day: copy.deepcopy(fitted).fit(day),
    }[way]
    found = [
        streams.follow(copy.deepcopy(fitted), streams.days(events), False, learn)[0]
        for events in (later, changed(later, row))
    ]
    np.testing.assert_array_equal(found[0][: row + 1], found[1][: row + 1])
    assert (found[0] != found[1]).any()


def test_a_day_is_remembered_once_and_learned_at_midnight(log):
    """`Follower` refuses to learn an event twice."""
    learned, later = log.split_in_time()
    mornings = []

    def learn(dawn, day):
        mornings.append(dawn)
        return streams.learn_part(dawn, day)

    days = streams.days(later)
    _, seconds = streams.follow(Follower().fit(learned), days, False, learn)
    assert len(seconds) == len(mornings) == len(days) - 1  # behind the last nobody asks
    before_last = log.events[: -len(days[-1])]
    pd.testing.assert_frame_equal(pd.concat(mornings[-1].trained_on), before_last)
    asked_on_last_day = pd.concat([known for _, known in mornings[-1].queried[-1:]])
    assert len(asked_on_last_day) == len(log.events) - 1


def test_refits_know_all_events_before_their_midnight_and_are_judged_by_its_day(log, follower):
    rows = dict(streams.stream(log, 0, {}, 2))
    learned, later = log.split_in_time()
    days = streams.days(later)
    assert len(days) == 4
    refits = [model for model in follower.made if len(model.trained_on[0]) > len(learned)]
    ends = np.cumsum([len(day) for day in days]) + len(learned)
    assert [len(model.trained_on[0]) for model in refits] == ends[[0, 2]].tolist()
    refitted = rows["observe, refit daily"]
    assert refitted["n_learned"] == 2
    assert rows["frozen"]["n_learned"] == rows["observe"]["n_learned"] == 0
    assert rows["observe, partial_fit daily"]["n_learned"] == len(days) - 1
    assert rows["observe"]["ndcg"] > rows["frozen"]["ndcg"]
    n_events = len(days[1]) + len(days[3])
    assert all(found["n_refitted_events"] == n_events for found in rows.values())
    lists = [
        streams.query_and_observe(model, days[n], log.exclude_seen)
        for n, model in ((n, Follower().fit(pd.concat([learned, *days[:n]]))) for n in (1, 3))
    ]
    queried = pd.concat([days[1], days[3]])
    again = logs.evaluate_next(queried, np.concatenate(lists))["ndcg"]
    assert refitted["ndcg of refitted days"] == pytest.approx(again.mean())
    more = again.mean() - rows["observe"]["ndcg of refitted days"]
    assert refitted["more than observe"] == pytest.approx(more)
    assert refitted["its error, observe"] > 0
    daily = "observe, partial_fit daily"  # by which `Follower` knows as much as by a refit
    assert refitted[f"more than {daily}"] == refitted[f"its error, {daily}"] == 0
    assert not any("more than" in figure for name in ("frozen", "observe") for figure in rows[name])
    short = dict(streams.stream(log, 0, {}, 2, 20))
    assert short["observe"]["n_events"] == 20


def test_the_error_of_a_difference_is_that_of_drawing_users_anew():
    rng = np.random.default_rng(0)
    users, again = rng.integers(0, 300, 4_000), rng.random(4_000) < 0.5
    ours, others = rng.random(300)[users] + rng.random(4_000), rng.random(4_000)
    found = {"frozen": others, "observe": others, "ours": ours}
    figures = streams._of_refitted(found, "ours", again, users)
    events = pd.DataFrame({"user": users, "more": ours - others})[again]
    sums = events.groupby("user")["more"].agg(["sum", "size"]).to_numpy()
    drawn = sums[rng.integers(0, len(sums), (2_000, len(sums)))].sum(1)  # (2000, 2)
    means = drawn[:, 0] / drawn[:, 1]
    assert figures["more than observe"] == pytest.approx(events["more"].mean())
    assert figures["its error, observe"] == pytest.approx(np.std(means), rel=0.08)


def test_days_make_no_difference_to_who_learns_nothing(log, ours):
    _, later = log.split_in_time()
    one, many = (
        streams.follow(copy.deepcopy(ours), parts, False)[0]
        for parts in ([later], streams.days(later))
    )
    np.testing.assert_array_equal(one, many)


def test_a_list_for_all_that_is_to_come(log):
    _, later = log.split_in_time()
    later = later[later["user_id"] < 20]
    lists = np.array([[f"{(r + j) % 41}p" for j in range(10)] for r in range(len(later))])
    found = streams.evaluate_each(later, lists)
    wanted = []
    for user in later["user_id"].unique():
        rows = np.flatnonzero(later["user_id"] == user)
        scores = [
            (ndcg_at_k([rest], lists[[r]]), recall_at_k([rest], lists[[r]]))
            for r in rows
            for rest in [set(later["item_id"].iloc[rows[rows >= r]])]
        ]
        wanted.append(np.mean(scores, axis=0))
    assert found["n_users"] == len(wanted)
    np.testing.assert_allclose([found["ndcg"], found["recall"]], np.mean(wanted, axis=0))
    first = later.drop_duplicates("user_id")
    once = streams.evaluate_once(later, first, lists[: len(first)])
    taken = [set(later.loc[later["user_id"] == user, "item_id"]) for user in first["user_id"]]
    assert once["ndcg"] == pytest.approx(ndcg_at_k(taken, lists[: len(first)]))
    assert once["recall"] == pytest.approx(recall_at_k(taken, lists[: len(first)]))


def test_the_time_line_asks_known_users_alone(log, follower, monkeypatch):
    monkeypatch.setattr(streams, "BASELINES", {"other": Follower()})
    rows = dict(streams.timeline(log, 0, {}, with_baselines=True))
    learned, later = log.split_in_time()
    n_users = len(set(later["user_id"]) & set(learned["user_id"]))
    assert [found["n_users"] for found in rows.values()] == [n_users] * 5
    assert 20 in set(later["user_id"]) - set(learned["user_id"])
    for model in follower.made:
        first = model.queried[0][0]
        pd.testing.assert_frame_equal(
            first, later[later["user_id"] < 20].drop_duplicates("user_id")[["user_id", "timestamp"]]
        )
    observed, each = (rows[f"ours, queried before each event{how}"] for how in (", observe", ""))
    assert observed["ndcg"] > each["ndcg"]


# ------------------------------------------------------------------------ blend


def test_the_tenth_before_the_last_is_asked_in_validation(log):
    learned, later = log.split_in_time("validation")
    times = log.events["timestamp"]
    assert learned.index.equals(log.events.index[times < times[480]])
    assert later.index.equals(log.events.index[(times >= times[480]) & (times < times[540])])
    assert log.split_in_time()[1].index[0] == 540


@pytest.mark.parametrize("excluded", [False, True])
def test_scores_of_the_catalogue_and_lists_as_item_by_item(log, ours, excluded):
    learned, later = log.split_in_time()
    first = blends.known_later(log, learned, later).drop_duplicates("user_id")[:3]
    items, scores = sorted(set(learned["item_id"])), blends.scores_by_item(ours, first)
    seen = blends.seen_of(learned, first["user_id"], np.array(items))
    lists = blends.best(scores, seen if excluded else None)
    for row, (user, now) in enumerate(zip(first["user_id"], first["timestamp"], strict=True)):
        asked = pd.DataFrame({"user_id": user, "item_id": items, "timestamp": now})
        np.testing.assert_allclose(scores[row], ours.predict(asked), rtol=1e-4)
        own = set(learned.loc[learned["user_id"] == user, "item_id"]) if excluded else set()
        left = [place for place, item in enumerate(items) if item not in own]
        left.sort(key=lambda place: -scores[row, place])
        assert lists[row].tolist() == left[:10]


@pytest.mark.parametrize("excluded", [False, True])
def test_lists_before_each_event_are_ranked_again_as_event_by_event(log, ours, excluded):
    learned, later = log.split_in_time()
    later = later[later["user_id"] < 20][-15:]
    items = np.unique(learned["item_id"])
    assert not later["item_id"].isin(items).all()
    scores = np.random.default_rng(0).normal(size=(20, len(items)))
    tastes = pd.DataFrame(scores, np.arange(20), items)
    lists = streams.query_and_observe(
        copy.deepcopy(ours), later, excluded, blends.reranked(tastes, 0.7)
    )
    model, options = copy.deepcopy(ours), {"exclude_seen": excluded, "on_missing": "pad"}
    for place in range(len(later)):
        event = later[place : place + 1]
        user, query = event["user_id"].iloc[0], event[["user_id", "timestamp"]]
        listed, found = model.recommend(query, n_recommendations=41, **options)
        total = {}
        for item, score in zip(listed[0], found[0], strict=True):
            if item is not None:
                total[item] = 0.7 * score + 0.3 * tastes.loc[user].get(item, scores[user].min())
        assert lists[place].tolist() == sorted(total, key=total.get, reverse=True)[:10]
        model.observe(event)


def test_a_blend_of_one_model_is_that_model(log, ours, monkeypatch):
    """With the transformer in both places, the sum has its figures."""
    fitted = []

    class Twin:
        item_ids_ = ours.item_ids_

        def fit(self, X):
            fitted.append(X)
            return self

        def recommend(self, X, **options):
            return ours.recommend(X, **options)

        def __deepcopy__(self, memo):
            return copy.deepcopy(ours)

    for name in ("make_model", "IncrementalMFRecommender"):
        monkeypatch.setattr(blends, name, lambda *_, **__: Twin())
    rows = dict(blends.blend(log, 0, {}, "test"))
    learned, later = log.split_in_time()
    assert all(X.equals(learned) for X in fitted)
    first = later[later["user_id"] < 20].drop_duplicates("user_id")
    wanted = streams.evaluate_once(later, first, logs.lists_of(ours, first, False))
    once = "transformer", "softmax", "sum, 0.4 of the transformer"
    assert list(rows) == [*once, "sum before each event, 0.5 of the transformer"]
    for found in map(rows.get, once):
        assert {name: found[name] for name in wanted} == wanted


# ------------------------------------------------------------------------ costs


def test_synthetic_logs_are_of_a_share_of_the_users():
    for share in (1, 4):
        events = costs.synthetic(0, share, 400, 50, 4000)
        assert len(events) == 4000 // share
        assert events["user_id"].nunique() == 400 // share
        assert events["timestamp"].is_monotonic_increasing
    counts = costs.synthetic(0, 1, 400, 50, 40_000)["item_id"].value_counts().to_numpy()
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.1)


def test_costs_of_a_share_are_of_all_items():
    found = costs.slice_cost(0, PARAMS, 2, {"n_users": 40, "n_items": 300, "n_events": 400})
    assert (found["n_events"], found["n_items"]) == (200, 300)
    assert found["n_users"] <= 20
    assert found["fit_seconds"] > found["epoch_seconds"] > 0
    assert found["peak_mib"] >= found["peak_mib_before"] > 0


def test_a_line_leads_to_the_aim():
    found = [
        {"n_events": n, "fit_seconds": 1 + 2 * n, "epoch_seconds": 3 * n, "peak_mib": 100 + n}
        for n in (1, 2, 4)
    ]
    aim = costs.extrapolate(found, 10)
    assert aim["fit_seconds"] == pytest.approx(21)
    assert aim["peak_mib"] == pytest.approx(110)
    assert aim["epoch_seconds_off_the_line"] == pytest.approx(0, abs=1e-9)
    found[1]["epoch_seconds"] = 12
    assert costs.extrapolate(found, 10)["epoch_seconds_off_the_line"] > 0.1


# ----------------------------------------------------------------------- the whole


def test_a_line_for_every_row_of_the_real_model(capsys):
    """Every task, as it is called; figures are those of learned models."""
    params = PARAMS | {"training": {"learning_rate": 0.003}, "net_params": {"batch_size": 64}}
    common = ["--data", "online-retail", "--threads", "1", "--params", json.dumps(params)]
    tasks = ["next", "timeline", "blend", "stream", "latency", "parts"]
    options = ["--seeds", "0", "--refits", "1", "--backbone", "scratch"]
    bench.main(["--task", *tasks, *common, *options])
    lines = printed(capsys)
    found = {(line["task"], line["model"]): line for line in lines}
    assert len(found) == len(lines) == len(bench.VARIANTS) + 3 + 6 + 4 + 4 + 1 + 1
    names = {line["task"] for line in lines}
    assert names == {"next, test", "timeline", "blend, test", "stream", "latency", "parts"}
    seconds = found["parts", "ours"]
    assert seconds["epoch"] > min(seconds[part] for part in costs.PARTS) > 0
    texts, ids = (found["next, test", name] for name in ("texts", "default"))
    assert (texts["n_items"], ids["n_items"]) == (42, 40)  # listed; learned
    assert found["stream", "observe, partial_fit daily"]["n_learned"] > 1
    late = found["latency", "ours"]
    assert late["n_learned"] + late["n_at_once"] + late["n_calls"] < 600
    assert 0 < late["observe_ms_50"] <= late["observe_ms_90"] <= late["observe_ms_99"]
    assert late["both_ms_50"] > late["recommend_ms_50"] > 0
