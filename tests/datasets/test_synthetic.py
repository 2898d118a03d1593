"""Synthetic logs: the returned truth is the truth."""

import numpy as np
import pytest

from sklearn_recft.datasets import make_checkerboard, make_interactions

DAY = 86400.0


def slow_expected_rating(log):
    """Affinity by the formula of the docstring, one event at a time."""
    typical = log.item_factors.shape[1] ** 0.25
    expected, events = [], []
    for (user, item, second), y in zip(log.data, log.target, strict=True):
        s = log.user_factors[user] @ log.item_factors[item]
        memory = np.zeros(log.item_factors.shape[1])
        for past_user, past_item, past_second, past_y in events:
            if past_user == user:
                fade = 0.5 ** ((second - past_second) / DAY / log.half_life)
                memory += np.sign(past_y - 3) * fade * log.item_factors[past_item]
        length = np.linalg.norm(memory) / typical
        expected.append(3 + s + memory @ log.item_factors[item] / np.sqrt(1 + length**2))
        events.append((user, item, second, y))
    return np.array(expected)


def test_expected_rating_follows_the_formula():
    log = make_interactions(5, 12, 150, half_life=20.0, noise=0.3, random_state=0)
    np.testing.assert_allclose(log.expected, slow_expected_rating(log), atol=1e-9)


def test_shapes_order_and_catalogue():
    log = make_interactions(30, 40, 2000, random_state=1)
    assert log.data.shape == (2000, 3)
    assert log.data.dtype == np.int64
    assert (np.diff(log.data[:, 2]) >= 0).all()
    assert log.data[:, 0].max() < 30
    assert log.data[:, 1].max() < 40
    assert log.user_factors.shape == (30, 4)
    assert log.item_factors.shape == (40, 4)
    assert log.feature_names == ["user_id", "item_id", "timestamp"]


def test_noise_is_the_floor_of_the_error():
    log = make_interactions(50, 50, 20_000, noise=0.7, random_state=0)
    assert np.sqrt(np.mean((log.target - log.expected) ** 2)) == pytest.approx(0.7, rel=0.02)


def test_clicks_come_at_their_probability():
    log = make_interactions(50, 50, 50_000, feedback="click", half_life=10.0, random_state=0)
    assert set(np.unique(log.target)) == {0.0, 1.0}
    for low in np.arange(0, 1, 0.1):
        bin_ = (log.expected >= low) & (log.expected < low + 0.1)
        assert log.target[bin_].mean() == pytest.approx(log.expected[bin_].mean(), abs=0.03)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_popularity_law(exponent):
    log = make_interactions(10, 50, 50_000, popularity=exponent, random_state=0)
    assert log.popularity.sum() == pytest.approx(1)
    shares = np.bincount(log.data[:, 1], minlength=50) / 50_000
    np.testing.assert_allclose(shares, log.popularity, atol=0.01)
    ranked = np.sort(log.popularity)[::-1]
    assert ranked[0] / ranked[9] == pytest.approx(10**exponent)


def explained(log, rows, factors):
    """Share of the variance of the expected feedback that these user factors explain."""
    users, items = log.data[rows, :2].T
    affinity = np.einsum("nk,nk->n", factors[users], log.item_factors[items])
    return np.corrcoef(affinity, log.expected[rows])[0, 1] ** 2


def test_abrupt_drift_swaps_tastes_at_the_drift_time():
    log = make_interactions(50, 60, 8000, drift="abrupt", random_state=0)
    before = log.data[:, 2] < log.drift_time
    assert 0.4 < before.mean() < 0.6
    assert explained(log, before, log.user_factors) == pytest.approx(1)
    assert explained(log, ~before, log.user_factors_end) == pytest.approx(1)
    assert explained(log, ~before, log.user_factors) < 0.1


def test_gradual_drift_turns_all_along():
    log = make_interactions(50, 60, 9000, drift="gradual", random_state=0)
    thirds = [explained(log, rows, log.user_factors) for rows in np.split(np.arange(9000), 3)]
    assert thirds[0] > 0.8 > thirds[1] > 0.3 > thirds[2]
    assert log.drift_time is None


def test_no_drift_keeps_tastes():
    log = make_interactions(50, 60, 2000, random_state=0)
    assert log.user_factors is log.user_factors_end
    assert explained(log, np.arange(2000), log.user_factors) == pytest.approx(1)


def test_random_state_decides_everything():
    first, again, other = (make_interactions(random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.data, again.data)
    np.testing.assert_array_equal(first.target, again.target)
    assert not np.array_equal(first.data, other.data)


@pytest.mark.parametrize("wrong", [{"half_life": 0}, {"drift": "slow"}, {"feedback": "buy"}])
def test_wrong_parameter_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_interactions(**wrong)


@pytest.mark.parametrize(("n_users", "n_items"), [(20, 20), (7, 9), (9, 4), (50, 11), (1, 5)])
def test_checkerboard(n_users, n_items):
    board = make_checkerboard(n_users, n_items)
    all_pairs = np.vstack([board.data, board.held_out])
    assert len(np.unique(all_pairs, axis=0)) == n_users * n_items == len(all_pairs)
    assert board.data[:, 0].max() < n_users
    assert board.data[:, 1].max() < n_items
    np.testing.assert_array_equal(board.target, board.data.sum(axis=1) % 2 == 0)
    np.testing.assert_array_equal(board.held_out[:, 0], np.arange(n_users))
    assert (board.held_out.sum(axis=1) % 2 == 0).all()


@pytest.mark.parametrize("make", [make_checkerboard, make_interactions])
def test_return_X_y(make):
    seed = {} if make is make_checkerboard else {"random_state": 0}
    X, y = make(6, 8, return_X_y=True, **seed)
    bunch = make(6, 8, **seed)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
