"""Splits of the few-shot benchmark: nothing leaks, order and seed are kept; metrics by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.fewshot import asking, losers, protocols, score
from benchmarks.fewshot.contenders import CONTENDERS, Bias, ItemMean, Ridge
from benchmarks.fewshot.data import Ratings
from benchmarks.fewshot.lists import SHOTS, list_task

SPLITS = {
    "metarec": protocols.metarec,
    "heavy": lambda log, seed: protocols.metarec(log, seed, heavy=True),
    "tanp": protocols.tanp,
    "time": protocols.first_events,
    "new_item": lambda log, seed: protocols.new_items(log, seed, n_users=80, n_support=5),
    **{
        f"cold_{kind}": lambda log, seed, kind=kind: protocols.cold(log, seed, kind)
        for kind in ("user", "item", "both")
    },
}
NEW_USERS = ("metarec", "heavy", "tanp", "time", "cold_user", "cold_both")
NEW_ITEMS = ("new_item", "cold_item", "cold_both")


@pytest.fixture(scope="module")
def log():
    """Return ratings of 100 users; a tenth of them has more than 100 rows."""
    rng = np.random.default_rng(0)
    sizes = np.where(np.arange(100) % 10 == 0, 120, rng.integers(30, 101, 100))
    users = np.repeat(np.arange(100) + 7, sizes)
    items = np.concatenate([rng.permutation(150)[:size] for size in sizes])
    times = rng.integers(0, 1000, len(users)) + 100 * users
    X = np.column_stack([users, items, times])[rng.permutation(len(users))]
    side = {"user_id": np.arange(100) + 7}, {"item_id": np.arange(150)}
    year = {item: 1990 + item % 12 for item in range(150)}
    y = rng.integers(1, 6, len(X)).astype(float)
    return Ratings(X, y, *map(pd.DataFrame, side), year)


@pytest.mark.parametrize("name", SPLITS)
def test_no_row_is_in_two_parts_and_the_seed_decides(log, name):
    task, twin, other = (SPLITS[name](log, seed) for seed in (0, 0, 1))
    parts = np.concatenate([task.train, task.support, task.query])
    assert len(np.unique(parts)) == len(parts)
    for part in ("train", "support", "place", "query", "owner"):
        assert_array_equal(getattr(task, part), getattr(twin, part))
    assert not np.array_equal(task.query, other.query)
    assert len(task.query)
    assert len(task.support)


@pytest.mark.parametrize("name", SPLITS)
def test_new_users_and_items_have_no_training_row(log, name):
    task = SPLITS[name](log, 0)
    train = log.X[task.train]
    new_user = ~np.isin(log.X[task.query, 0], train[:, 0])
    new_item = ~np.isin(log.X[task.query, 1], train[:, 1])
    assert new_user.all() if name in NEW_USERS else not new_user.any()
    if name in NEW_ITEMS:
        assert new_item.all()
    assert_array_equal(task.owner, log.X[task.query, int(name == "new_item")])


@pytest.mark.parametrize("name", SPLITS)
def test_the_first_examples_are_a_prefix_of_more(log, name):
    task = SPLITS[name](log, 0)
    column = int(name == "new_item")
    one, three = task.first(1), task.first(3)
    assert len(np.unique(log.X[one, column])) == len(one)
    assert_array_equal(three[np.isin(three, one)], one)
    assert np.unique(log.X[three, column], return_counts=True)[1].max() == 3
    assert_array_equal(task.first(None), task.support)
    assert len(task.first(0)) == 0


def test_metarec_holds_out_ten_rows_of_users_of_13_to_100(log):
    task = protocols.metarec(log, 0)
    validation = protocols.metarec(log, 0, part="validation")
    users, counts = np.unique(task.owner, return_counts=True)
    assert_array_equal(counts, 10)
    assert len(users) == 9
    assert not np.isin(users, validation.owner).any()
    for part in (task.train, task.query):
        assert np.unique(log.X[part, 0], return_counts=True)[1].max() <= 100
    heavy = protocols.metarec(log, 0, heavy=True)
    assert_array_equal(heavy.query, task.query)
    assert len(np.unique(log.X[heavy.train, 0])) == len(np.unique(log.X[task.train, 0])) + 10


def test_first_events_are_the_earliest(log):
    task = protocols.first_events(log, 0)
    for user in np.unique(task.owner):
        support = log.X[task.support[log.X[task.support, 0] == user], 2]
        query = log.X[task.query[task.owner == user], 2]
        assert len(support) <= 10
        assert (np.diff(support) >= 0).all()
        assert support.max() <= query.min()


def test_cold_items_are_the_late_ones_and_cold_users_the_newest(log):
    first = pd.Series(log.X[:, 2]).groupby(log.X[:, 0]).min()
    for kind in ("user", "item", "both"):
        task = protocols.cold(log, 0, kind)
        years = {part: {log.year[item] for item in log.X[getattr(task, part), 1].tolist()}
                 for part in ("train", "query")}  # fmt: skip
        assert max(years["train"]) == 1997
        assert (min(years["query"]) > 1997) == (kind != "user")
        old, tested = (first[np.unique(log.X[part, 0])] for part in (task.train, task.query))
        assert (tested.min() >= old.max()) == (kind != "item")


def test_relevance_of_ties_is_shared():
    y = np.array([5.0, 4, 4, 4, 1])
    discount = 1 / np.log2([2, 3])
    wanted = (1 * discount[0] + 1 / 3 * discount[1]) / discount.sum()
    assert_allclose(score.best_of(y, y, 2), wanted)
    assert_allclose(score.best_of(y, -y, 2), (0 + 1 / 3 * discount[1]) / discount.sum())
    assert_allclose(score.best_of(np.full(10, 3.0), np.arange(10.0)), 0.5)


def test_graded_relevance_by_hand():
    y, predicted = np.array([1.0, 3, 2]), np.array([3.0, 2, 1])
    gain = np.array([1.0, 7, 3]) / np.log2([2, 3, 4])
    best = np.array([7.0, 3, 1]) / np.log2([2, 3, 4])
    assert_allclose(score.graded(y, predicted, 3), gain.sum() / best.sum())
    assert_allclose(score.graded(y, y, 2), 1)


def test_metrics_are_of_each_owner():
    y, owner = np.array([1.0, 2, 5, 4]), np.array([9, 3, 9, 3])
    answer = np.array([1.0, 3, 3, 4]), np.full(4, 1.0)
    found = score.metrics(y, answer, owner, ("ndcg@2", "ndcg@2/1"))
    assert_array_equal(found["owner"], [3, 9])
    assert_allclose(found["se"], [1, 4])
    assert_allclose(found["ae"], [1, 2])
    assert_array_equal(found["covered"], [2, 1])
    assert_allclose(found["ndcg@2"], 1)
    figures = score.summary(found)
    assert_allclose([figures["rmse"], figures["covered"]], [np.sqrt(5 / 4), 3 / 4])


def test_an_owner_of_several_seeds_is_drawn_once():
    zero = pd.DataFrame({"owner": [1, 2, 1], "seed": [0, 0, 1], "best": [0.0, 0.0, 0.0]})
    mean, low, high = score.paired(zero.assign(best=[1.0, 0.0, 1.0]), zero, "best")
    assert_allclose(mean, 2 / 3)
    assert_allclose(high - mean, 1.96 * np.sqrt((2 / 3) ** 2 * 2 * 2) / 3)
    assert_allclose(high - mean, mean - low)
    with pytest.raises(ValueError, match="different users"):
        score.paired(zero, zero.assign(owner=[1, 3, 1]), "best")


def test_the_bias_of_a_new_user_is_its_shrunk_offset():
    ratings = Ratings(np.empty((0, 3)), np.empty(0), pd.DataFrame(), pd.DataFrame(), {})
    X = np.array([[1, 1], [2, 1], [1, 2], [2, 2]])
    y = np.array([4.0, 4, 2, 2])
    item = {1: 3 + 2 / 5, 2: 3 - 2 / 5}
    query = np.array([[3, 1], [3, 2], [3, 9]])
    model = Bias(ratings, 0).fit(X, y)
    assert_allclose(model.answer(X[:0], y[:0], query)[0], [item[1], item[2], 3])
    offset = (4 - item[2]) / 6
    support = np.array([[3, 2]])
    found, _ = model.answer(support, np.array([4.0]), query)
    assert_allclose(found, [item[1] + offset, item[2] + offset, 3 + offset])
    found, _ = ItemMean(ratings, 0).fit(X, y).answer(support, np.array([4.0]), query)
    assert_allclose(found, [item[1], item[2], 3])


@pytest.mark.parametrize("name", ["item mean", "bias", "ridge", "IncrementalMF"])
def test_answers_leave_the_fitted_model_as_it_was(log, name):
    task = protocols.metarec(log, 0)
    model = CONTENDERS[name](log, 0)
    model.fit(*log.rows(task.train))
    query, _ = log.rows(task.query)
    before, _ = model.answer(*log.rows(task.first(0)), query)
    after, _ = model.answer(*log.rows(task.support), query)
    again, _ = model.answer(*log.rows(task.first(0)), query)
    assert_array_equal(before, again)
    assert np.isfinite(after).all()
    if name != "item mean":
        assert not np.array_equal(before, after)


def test_the_ridge_regression_is_the_dense_one(log):
    task = protocols.metarec(log, 0)
    model = Ridge(log, 0)
    model.fit(*log.rows(task.train))
    user = task.owner[0]
    rows = task.support[log.X[task.support, 0] == user]
    X, y = log.rows(rows)
    found, _ = model.answer(X, y, X)
    users, items = model.sides
    q = items.rows(X[:, 1])
    design = np.column_stack([np.ones(len(q)), q[:, 1:]])
    penalty = np.diag([model.bias_penalty, *[model.penalty] * (q.shape[1] - 1)])
    stacked = np.vstack([design, np.sqrt(penalty)])
    target = np.r_[y - model.mean - q[:, 0], np.sqrt(np.diag(penalty)) * users.mean]
    w = np.linalg.lstsq(stacked, target, rcond=None)[0]
    assert_allclose(found, np.clip(model.mean + q[:, 0] + design @ w, 1, 5), rtol=1e-6)


def test_lists_are_for_the_newest_users():
    rng = np.random.default_rng(1)
    users = np.repeat(np.arange(20), 15)
    events = pd.DataFrame(
        {
            "user_id": users,
            "item_id": np.concatenate([rng.permutation(40)[:15] for _ in range(20)]),
            "timestamp": 50 * users + rng.integers(0, 200, len(users)),
        }
    )
    task = list_task(events, exclude_seen=True)
    first = events.groupby("user_id")["timestamp"].min()
    assert task.train["timestamp"].max() < first[task.users].min()
    assert not np.isin(task.users, task.train["user_id"]).any()
    assert task.given.groupby("user_id").size().eq(SHOTS[-1]).all()
    last = task.given.groupby("user_id")["timestamp"].max()
    for user, items in zip(task.users.tolist(), task.relevant, strict=True):
        its = events[(events["user_id"] == user) & events["item_id"].isin(items)]
        assert its["timestamp"].min() >= last[user]


def test_a_rule_asks_each_user_once(log):
    left = np.array([[1, 5], [2, 6], [1, 7], [2, 8]])
    rng = np.random.default_rng(0)

    class Model:
        popularity_ = {5: 1, 6: 9, 7: 2, 8: 3}

        def predict(self, X, return_std):
            return None, np.array([4.0, 1, 3, 2])

        def ask(self, users, n_items, candidates):
            [user] = users
            assert_array_equal(candidates, {1: [5, 7], 2: [6, 8]}[user])
            return np.array([{1: [7, 5], 2: [6, 8]}[user]])

    assert_array_equal(asking.most_popular(Model(), left, rng), [2, 1])
    assert_array_equal(asking.least_sure(Model(), left, rng), [0, 3])
    model = Model()
    model.questions_ = asking.questions(model, left)
    assert_array_equal(asking.ask(model, left, rng), [2, 1])
    assert_array_equal(asking.ask(model, left[[0, 1, 3]], rng), [0, 1])
    assert sorted(left[asking.at_random(Model(), left, rng), 0]) == [1, 2]


@pytest.mark.parametrize("kind", [losers.MetaSGD, losers.NeuralProcess])
def test_a_net_reads_only_the_support_rows(kind):
    torch.manual_seed(0)
    net = kind(np.random.default_rng(0).normal(size=(6, 4)), 2)
    profile, item = torch.ones(1, 2), torch.tensor([[0, 1, 2]])
    rating, mask = torch.tensor([[1.0, -1, 0.5]]), torch.tensor([[1.0, 1, 0]])
    asked = torch.tensor([[3, 4]])
    with torch.no_grad():
        found = net(profile, (item, rating, mask), asked)
        hidden = net(profile, (item, rating * torch.tensor([1.0, 1, 9]), mask), asked)
        other = net(profile, (item, -rating, mask), asked)
    assert found.shape == (1, 2)
    assert_allclose(found, hidden)
    assert not np.allclose(found, other)


def test_episodes_are_the_rows_of_each_user(log):
    rows = np.flatnonzero(np.isin(log.X[:, 0], [8, 9]))
    items = {item: item for item in range(140)}
    found = losers.Episodes(log, rows, items, 3.0)
    assert_array_equal(found.users, [8, 9])
    known = log.X[rows, 1] < 140
    assert found.mask.sum() == known.sum()
    for n, user in enumerate([8, 9]):
        its = log.X[rows, 0] == user
        kept = found.mask[n] > 0
        assert_array_equal(found.item[n][kept], log.X[rows][its & known, 1])
        assert_allclose(found.rating[n][kept], log.y[rows][its & known] - 3)
