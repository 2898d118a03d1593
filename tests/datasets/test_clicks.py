"""Simulated and replayed clicks: the truth is the truth, and bad lists are refused."""

import numpy as np
import pandas as pd
import pytest

from sklearn_recft.datasets import ClickReplay, ClickSimulator


@pytest.fixture(scope="module")
def simulator():
    return ClickSimulator(30, 20, turn_day=1, examination=[1, 0.5, 0.2], random_state=0)


def test_clicks_come_at_their_expectation(simulator):
    visits = simulator.visits(20_000, day=0)
    lists = np.tile([3, 7, 11], (len(visits), 1))
    shown = simulator.show(visits, lists)
    assert shown.columns.tolist() == [
        *("list_id", "user_id", "item_id", "rank", "clicked", "timestamp", "propensity")
    ]
    taste = simulator.click_probability(visits, lists)
    expected = taste * [1, 0.5, 0.2]
    np.testing.assert_allclose(simulator.expected_clicks(visits, lists), expected.sum(1))
    observed = shown.groupby("rank")["clicked"].mean()
    np.testing.assert_allclose(observed, expected.mean(0), atol=0.01)
    assert shown["propensity"].tolist() == [1, 0.5, 0.2] * len(visits)
    assert shown["user_id"].tolist() == visits["user_id"].repeat(3).tolist()


def test_tastes_follow_the_formula_and_turn(simulator):
    visits = pd.DataFrame(
        {"user_id": [4, 4], "timestamp": [simulator.turn_time - 1, simulator.turn_time]}
    )
    found = simulator.click_probability(visits, [[5], [5]]).ravel()
    for probability, factors in zip(
        found, [simulator.user_factors, simulator.user_factors_end], strict=True
    ):
        taste = factors[4] @ simulator.item_factors[5]
        assert probability == pytest.approx(1 / (1 + np.exp(-(taste - 1.0) / 0.5)))


def test_no_list_is_better_than_the_best(simulator):
    visits = simulator.visits(50, day=0.9, n_days=0.2)
    assert visits["timestamp"].is_monotonic_increasing
    best = simulator.expected_clicks(visits, simulator.best_lists(visits, n_ranks=3))
    rng = np.random.default_rng(0)
    for _ in range(5):
        lists = np.array([rng.permutation(20)[:3] for _ in range(len(visits))])
        assert (simulator.expected_clicks(visits, lists) <= best + 1e-12).all()


def test_exploration_and_its_propensities():
    simulator = ClickSimulator(5, 6, exploration=0.4, random_state=0)
    visits = simulator.visits(15_000, day=0)
    given = np.tile([2, 0], (len(visits), 1))
    shown = simulator.show(visits, given)
    e = 1 / np.log2([2, 3])
    examined = shown["rank"].map({1: e[0], 2: e[1]})
    # Summed over ranks, an item is examined as often as its propensity says.
    often = examined.groupby(shown["item_id"]).sum() / len(visits)
    stated = shown.groupby("item_id")["propensity"].agg(["min", "max"])
    assert (stated["min"] == stated["max"]).all()
    np.testing.assert_allclose(often, stated["min"], atol=0.015)
    assert stated["min"][2] == pytest.approx(0.6 * e[0] + 0.4 * e.sum() / 6)
    assert simulator.examined_in(given, shown)[shown["item_id"] == 0][0] == pytest.approx(e[1])
    assert (simulator.examined_in(given, shown)[shown["item_id"] > 2] == 0).all()


def test_one_seed_one_world():
    """What is displayed changes neither who visits nor the luck of a rank."""
    first, second = (ClickSimulator(20, 30, exploration=0.1, random_state=7) for _ in range(2))
    for day in range(3):
        visits, again = first.visits(200, day), second.visits(200, day)
        pd.testing.assert_frame_equal(visits, again)
        one = first.show(visits, first.best_lists(visits, 4))
        other = second.show(again, second.best_lists(again, 4)[:, ::-1])
    explored = one["item_id"].to_numpy() == other["item_id"].to_numpy()
    assert 0 < explored.mean() < 0.5
    same = one[explored], other[explored]
    assert (same[0]["clicked"].to_numpy() == same[1]["clicked"].to_numpy()).all()
    assert one["list_id"].min() == 400
    assert not np.array_equal(first.item_factors, ClickSimulator(20, 30).item_factors)


def test_replay_clicks_what_comes_next():
    rows = [("ann", "a", 5), ("ann", "b", 10), ("bob", "c", 10), ("ann", "c", 20), ("ann", "a", 30)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    replay = ClickReplay(log.sample(frac=1, random_state=0), n_next=2, examination=[1, 1, 1])
    visits = replay.visits(10, 30)
    assert sorted(visits.to_numpy().tolist()) == [["ann", 10], ["bob", 10]]
    visits = pd.DataFrame({"user_id": ["ann", "ann", "eve"], "timestamp": [10, 20, 10]})
    lists = [["a", "b", "c"]] * 3
    found = replay.click_probability(visits, lists)
    assert found.tolist() == [[0, 1, 1], [1, 0, 1], [0, 0, 0]]
    assert replay.show(visits, lists)["clicked"].sum() == 4
    assert replay.expected_clicks(visits, lists).tolist() == [2, 2, 0]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1, 2], [3, 99]], "items: 1 of 2 lists have an item that is not in the catalogue"),
        ([[1, 2], [3, 3]], "items: 1 of 2 lists have an item twice"),
        ([1, 2], "items must have shape"),
        ([[1, 2]], "items has 1 lists, visits has 2 rows"),
        ([[1, 2, 3, 4]] * 2, "lists have 4 ranks, examination has 3"),
    ],
)
def test_bad_lists_are_refused(simulator, lists, message):
    visits = pd.DataFrame({"user_id": [0, 1], "timestamp": [1577836800] * 2})
    for method in (simulator.show, simulator.expected_clicks):
        with pytest.raises(ValueError, match=message):
            method(visits, lists)


def test_bad_visits_and_parameters_are_refused(simulator):
    with pytest.raises(ValueError, match="user_id: 1 of 2 rows are no users"):
        simulator.show([[0, 1577836800], [30, 1577836800]], [[1], [2]])
    with pytest.raises(ValueError, match="visits needs the columns"):
        simulator.show(pd.DataFrame({"user_id": [1]}), [[1]])
    with pytest.raises(ValueError, match="examination: 1 of 2 ranks"):
        ClickSimulator(examination=[1, 0])
    with pytest.raises(ValueError, match="exploration"):
        ClickSimulator(exploration=1.5)
    shown = simulator.show([[0, 1577836800]], [[1, 2]])
    with pytest.raises(ValueError, match="items has 3 lists, shown has 1"):
        simulator.examined_in([[1]] * 3, shown)


def test_shown_rows_may_be_in_any_order():
    simulator = ClickSimulator(10, 12, exploration=0.5, random_state=0)
    visits = simulator.visits(6, day=0)
    lists = simulator.best_lists(visits, 3)
    simulator.show(visits, lists)  # list ids do not begin at 0
    shown = simulator.show(visits, lists)
    expected = simulator.examined_in(lists, shown)
    order = np.random.RandomState(0).permutation(len(shown))[:-1]
    np.testing.assert_array_equal(simulator.examined_in(lists, shown.iloc[order]), expected[order])
    with pytest.raises(ValueError, match="shown: item_id: 18 of 18 rows"):
        simulator.examined_in(lists, shown.assign(item_id=99))
    with pytest.raises(ValueError, match="shown needs the columns list_id and item_id"):
        simulator.examined_in(lists, shown.drop(columns="list_id"))


def test_bad_periods_and_lengths_are_refused(simulator):
    for wrong in ({"n_visits": -1}, {"n_visits": 2.5}, {"day": np.nan}, {"n_days": -1}):
        with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter"):
            simulator.visits(**{"n_visits": 3, "day": 0, **wrong})
    visits = simulator.visits(2, day=0)
    for n_ranks in (0, -1, 2.5, 10**6):
        with pytest.raises(ValueError, match="n_ranks must be an integer from 1"):
            simulator.best_lists(visits, n_ranks)
    with pytest.raises(ValueError, match="visits is empty"):
        simulator.show(simulator.visits(0, day=0), np.empty((0, 2), int))
    with pytest.raises(ValueError, match="lists have 1 to 2 items"):
        simulator.show(visits, [[1, 2], [1]])
    replay = ClickReplay([[1, 2, 3]])
    with pytest.raises(ValueError, match="'start' parameter"):
        replay.visits("2020-01-01", 5)
