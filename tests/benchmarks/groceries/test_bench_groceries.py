"""The benchmark of the groceries on a tiny log: what is relevant when, and what it prints."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.groceries import bench_groceries, next_basket
from benchmarks.groceries.walk import KINDS, WEEK, Walk, interval
from sklearn_recft import PopularityRecommender

DAY = 86_400
# Two users, a week of fitting, two weeks that are followed.
LOG = np.array(
    [
        [1, 10, 0], [2, 11, DAY], [1, 11, 2 * DAY],
        [1, 10, 7 * DAY], [1, 12, 7 * DAY], [2, 13, 8 * DAY],
        [1, 12, 15 * DAY], [1, 12, 16 * DAY], [2, 10, 16 * DAY],
    ]
)  # fmt: skip


def made(n_rows=400):
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 60 * DAY, n_rows))
    return np.column_stack([rng.integers(0, 8, n_rows), rng.integers(0, 25, n_rows), times])


def test_what_is_new_is_decided_before_the_week():
    walk = Walk(LOG, 3)
    assert_array_equal(walk.bounds, [3, 6, 9])
    relevant = [
        {kind: [sorted(set(items)) for items in week[kind].relevant] for kind in KINDS}
        for week in walk.tasks
    ]
    assert relevant == [
        {"all": [[10, 12], [13]], "repeats": [[10]], "new": [[12], [13]]},
        {"all": [[12], [10]], "repeats": [[12]], "new": [[10]]},
    ]
    assert_array_equal(walk.users["repeats"], [0, 0])
    assert_array_equal(walk.tasks[0]["all"].queries, [[1, 7 * DAY], [2, 8 * DAY]])


@pytest.mark.parametrize("learn", ["partial_fit", "refit", "never"])
def test_a_week_is_listed_before_it_is_learned(learn):
    class Spy(PopularityRecommender):
        known, asked = -1, []

        def fit(self, X):
            Spy.known = X[:, 2].max()
            return super().fit(X)

        def partial_fit(self, X):
            assert X[:, 2].min() >= Spy.known
            Spy.known = X[:, 2].max()
            return super().partial_fit(X)

        def recommend(self, X, **options):
            Spy.asked.append((options["exclude_seen"], Spy.known, X[:, 1].min()))
            return super().recommend(X, **options)

    X = made()
    followed = (walk := Walk(X, 200)).follow(Spy(), learn)
    assert {kind: len(values) for kind, values in followed.values.items() if kind in KINDS} == {
        kind: len(users) for kind, users in walk.users.items()
    }
    assert all(known <= now for _, known, now in Spy.asked)
    latest = {known for _, known, _ in Spy.asked}
    assert len(latest) == (1 if learn == "never" else len(walk.tasks))
    assert {exclude for exclude, *_ in Spy.asked} == {True, False}


def test_validation_ends_where_the_test_begins():
    X = made()
    options = bench_groceries.parser().parse_args(["--part", "validation"])
    walk = bench_groceries.walk_of(X, options)
    begin = bench_groceries.walk_of(X, bench_groceries.parser().parse_args([])).bounds[0]
    assert len(walk.X) == begin == walk.bounds[-1]
    assert X[begin, 2] - X[walk.bounds[0], 2] <= 5 * WEEK


def test_intervals_draw_users_with_all_their_lists():
    users = np.repeat(np.arange(30), 20)
    of_user = np.random.default_rng(0).normal(size=30)
    low, high = interval(of_user[users], users)
    assert low < of_user.mean() < high
    assert_allclose(high - low, 3.92 * of_user.std() / 30**0.5, rtol=0.15)


def test_lines_and_differences_are_printed_and_kept(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench_groceries, "purchases", lambda data: made())
    args = [
        "--only",
        "HabitRecommender",
        "--learn",
        "partial_fit",
        "never",
        "--keep",
        str(tmp_path),
    ]
    for _ in range(2):  # the second time from what was kept
        bench_groceries.main(args)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        learning, static, difference = lines[1:]
        assert (learning["learning"], static["learning"]) == ("learning", "static")
        assert difference["minus"] == "HabitRecommender, static"
        gain = learning["ndcg@10 all"] - static["ndcg@10 all"]
        assert difference["all"][0] == pytest.approx(gain, abs=1.01e-4)
        assert difference["all"][1] <= difference["all"][0] <= difference["all"][2]
    assert len(list(tmp_path.iterdir())) == 2


class Counts(next_basket._NextBasket):
    """Rank by baskets of the user."""

    def _prepare(self):
        pass

    def _scores(self, users):
        return np.stack(
            [
                np.bincount(np.concatenate(self.baskets_[u]), minlength=len(self.item_ids_))
                for u in users
            ]
        ).astype(float)


def test_baskets_are_what_a_user_buys_in_one_second():
    model = Counts().fit(LOG)
    assert model.baskets_ == [[[0], [1], [0, 2], [2], [2]], [[1], [3], [0]]]
    queries = np.array([[1, 0], [2, 0], [3, 0]])  # 3 is unknown
    items, _ = model.recommend(queries, n_recommendations=3, exclude_seen=False)
    assert_array_equal(items, [[12, 10, 11], [10, 11, 13], [10, 12, 11]])
    new, _ = model.recommend(queries[:2], n_recommendations=1, exclude_seen=True)
    assert_array_equal(new, [[13], [12]])


def test_peers_rank_by_the_formulas_of_their_papers():
    pytest.importorskip("cornac")
    X = made()
    model = next_basket.UPCF(recency=3, locality=2, asymmetry=0.75).fit(X)
    seen = np.zeros((8, 25))
    seen[X[:, 0], X[:, 1]] = 1
    size = seen.sum(axis=1)
    near = (seen @ seen.T / (size[:, None] ** 0.75 * size**0.25)) ** 2 + np.eye(8)
    shares = np.array(
        [np.bincount(np.concatenate(b[-3:]), minlength=25) / min(3, len(b)) for b in model.baskets_]
    )
    assert_allclose(model._scores(np.arange(8)), near @ shares, rtol=1e-5)
    knn = next_basket.TIFUKNN(n_neighbors=3).fit(X)
    vectors = knn.vectors_.toarray()
    distance = ((vectors[:, None] - vectors) ** 2).sum(axis=2)
    mean = vectors[np.argsort(distance, axis=1)[:, :3]].mean(axis=1)
    assert_allclose(knn._scores(np.arange(8)), 0.7 * vectors + 0.3 * mean, rtol=1e-4, atol=1e-7)
