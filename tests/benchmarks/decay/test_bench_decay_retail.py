"""The benchmark on weeks of purchases: training rows, queries, and the metrics of lists."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.decay import bench_decay_retail as bench

NEWCOMER = "i30"  # sold in the last week alone


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Twelve weeks in which each of 20 customers buys two of the same five items every time."""
    rng = np.random.default_rng(0)
    visits = pd.MultiIndex.from_product([range(12), range(20)], names=["week", "user_id"])
    frame = visits.repeat(2).to_frame(index=False)
    taste = 5 * (frame["user_id"] % 6)
    frame["item_id"] = "i" + (taste + rng.integers(0, 5, len(frame))).astype(str)
    frame["timestamp"] = bench.MONDAY + frame["week"] * bench.WEEK + rng.integers(0, bench.WEEK)
    frame.loc[frame.index[-1], "item_id"] = NEWCOMER
    folder = tmp_path / "shop"
    folder.mkdir()
    frame.drop(columns="week").sample(frac=1, random_state=0).to_parquet(
        folder / "interactions.parquet"
    )
    titles = pd.DataFrame({"item_id": [f"i{j}" for j in range(31)]})
    titles["title"] = [f"taste {j // 5} flavour {j}" for j in range(31)]
    titles.to_parquet(folder / "items.parquet")
    monkeypatch.setenv("SKLEARN_RECFT_DATA", str(tmp_path))
    return bench.Weeks("shop")


class Notes:
    """Notes down its training rows and queries, and ranks the known items by code."""

    def __init__(self):
        self.trained_on, self.queried, self.items = [], [], set()

    def fit(self, X, items=None):
        self.items |= set(X["item_id"]) | set(() if items is None else items["item_id"])
        self.trained_on.append(X["timestamp"])
        return self

    partial_fit = fit

    @property
    def n_items_(self):
        return len(self.items)

    def recommend(self, X, *, n_recommendations, exclude_seen):
        assert not exclude_seen
        self.queried.append((X["timestamp"].iloc[0], pd.concat(self.trained_on).max()))
        order = sorted(self.items)[:n_recommendations]
        return np.tile(order, (len(X), 1)), None


def test_each_week_is_queried_before_it_is_learned(shop):
    notes = Notes()
    weeks = [week for week, _ in bench.follow(notes, shop)]
    assert weeks == list(shop)
    assert len(weeks) == bench.N_VALIDATION + bench.N_TEST
    assert all(newest < now for now, newest in notes.queried)
    assert sum(map(len, notes.trained_on)) == len(shop.before(weeks[-1]))


def test_new_items_are_listed_before_their_week_and_not_sooner(shop):
    sizes = [ranked.shape[1] for _, ranked in bench.follow(Notes(), shop, lists_news=True)]
    alone = [ranked.shape[1] for _, ranked in bench.follow(Notes(), shop)]
    assert sizes == [*alone[:-1], alone[-1] + 1]


def test_relevant_is_what_known_customers_buy_in_the_week(shop):
    week = shop.first + 3
    queries, bought, owned = shop.queried(week)
    now, before = shop.of(week), shop.before(week)
    for user, items, past in zip(queries["user_id"], bought, owned, strict=True):
        assert set(items) == set(now.loc[now["user_id"] == user, "item_id"])
        assert set(past) == set(before.loc[before["user_id"] == user, "item_id"])
    assert queries["timestamp"].eq(shop.start(week)).all()


def test_new_items_are_judged_by_their_place():
    ranked = np.array([[4, 0, 1, 5, 2], [0, 1, 2, 4, 5]])
    found = bench.evaluate_news(ranked, [np.array([4, 0]), np.array([5])], np.array([4, 5]))
    assert found["new_behind"].tolist() == [1.0, 0.0]
    assert found["new_behind_among_new"].tolist() == [1.0, 0.0]
    assert found["new_recall@10"].tolist() == [1.0, 1.0]
    unknown = bench.evaluate_news(ranked[:, :3], [np.array([5]), np.array([])], np.array([5]))
    assert unknown["new_recall@10"].tolist() == [0.0]
    assert not len(unknown["new_behind"])


def test_what_was_bought_before_is_left_out_of_one_list(shop):
    week = shop.first
    answers = [np.array([1, 2])], [np.array([1, 3])]  # bought in the week, and before
    shop._queried[week] = (None, *answers)
    found = bench.evaluate(shop, week, np.array([[1, 3, 2, 4]]))
    assert 0.5 < found["ndcg"][0] < 1.0
    assert found["ndcg_new_to_user"].tolist() == [1.0]


def test_own_purchases_come_first_the_newest_before_the_old():
    log = pd.DataFrame(
        {"user_id": [0, 0, 1, 1, 1], "item_id": [3, 4, 5, 5, 5], "timestamp": [0, 1, 2, 3, 4]}
    )
    log["timestamp"] *= bench.DAY
    model = bench.OwnPurchases(1.0).fit(log)
    queried = pd.DataFrame({"user_id": [0, 1], "timestamp": 5 * bench.DAY})
    items = model.recommend(queried, n_recommendations=3, exclude_seen=False)[0]
    assert items.tolist() == [[4, 3, 5], [5, 4, 3]]


def test_a_line_for_every_model(shop, capsys, monkeypatch):
    only = {"PopularityRecommender": [({}, bench.PopularityRecommender())]}
    monkeypatch.setattr(bench, "peers", lambda: only)
    params = '{"max_epochs": 1, "max_history": 5, "n_factors": 2, "training": {"warmup": 0}}'
    bench.main(["--data", "shop", "--seeds", "0", "--decay", "exponential", "--params", params])
    popular, ours = map(json.loads, capsys.readouterr().out.splitlines())
    assert [popular["model"], ours["model"]] == ["PopularityRecommender", "DecayBert, exponential"]
    assert popular["test"]["new_recall@100"] == 0.0
    assert ours["test"]["new_recall@100"] == 1.0  # the catalogue is not that long
    assert ours["test"]["n_new_bought"] == 1
    assert ours["test"]["ndcg"] > popular["test"]["ndcg"]
    assert len(ours["half_lives"]) == 4
