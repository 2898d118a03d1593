"""Off-policy estimates: by hand, against the truth of a simulator, and on bad input."""

from functools import partial

import numpy as np
import pytest
from scipy.special import softmax

from sklearn_recft.datasets import ClickSimulator
from sklearn_recft.metrics import (
    PolicyValue,
    doubly_robust_value,
    ips_value,
    item_position_value,
    snips_value,
)

N_LOGS, N_ROWS, N_ITEMS = 200, 200, 10


@pytest.fixture(scope="module")
def estimates():
    """True value and the estimates of every estimator, from many small logs of one slot."""
    simulator = ClickSimulator(40, N_ITEMS, random_state=0)
    visits = simulator.visits(N_LOGS * N_ROWS, day=0)
    every = np.tile(np.arange(N_ITEMS), (len(visits), 1))
    clicks = simulator.click_probability(visits, every)
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(40, N_ITEMS))[visits["user_id"]]
    logging, target = softmax(noisy, axis=1), softmax(3 * clicks, axis=1)
    truth = float((target * clicks).sum(1).mean())
    drawn = (logging.cumsum(1) < rng.random((len(visits), 1))).sum(1)
    drawn = drawn.clip(max=N_ITEMS - 1)[:, None]
    shown = simulator.show(visits, drawn)
    model = 0.9 * clicks + 0.02 * noisy  # good, not perfect
    logged, propensities, probabilities = (
        np.take_along_axis(table, drawn, 1).reshape(N_LOGS, N_ROWS)
        for table in (model, logging, target)
    )
    direct = (target * model).sum(1).reshape(N_LOGS, N_ROWS)
    rewards = shown["clicked"].to_numpy().reshape(N_LOGS, N_ROWS)
    found = {"ips": [], "snips": [], "dr": [], "dr, wrong model": []}
    for row in range(N_LOGS):
        log = rewards[row], propensities[row], probabilities[row]
        found["ips"].append(ips_value(*log))
        found["snips"].append(snips_value(*log))
        found["dr"].append(doubly_robust_value(*log, (logged[row], direct[row])))
        constant = np.full(N_ROWS, 0.3)
        found["dr, wrong model"].append(doubly_robust_value(*log, (constant, constant)))
    return truth, found


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "dr, wrong model"])
def test_estimates_are_unbiased_within_their_intervals(estimates, name):
    truth, found = estimates
    values = np.array([estimate.value for estimate in found[name]])
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(N_LOGS)
    bounds = np.array([estimate.interval() for estimate in found[name]])
    covered = np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
    assert 0.88 <= covered <= 0.99
    errors = np.array([estimate.standard_error for estimate in found[name]])
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)


def test_snips_varies_less_than_ips_and_doubly_robust_least(estimates):
    spread = {name: np.std([e.value for e in found]) for name, found in estimates[1].items()}
    assert spread["dr"] < spread["snips"] < spread["ips"]


def test_item_position_value_of_another_ranking():
    """The clicks per list of the best lists, from small logs of bad lists and some exploration."""
    simulator = ClickSimulator(40, 12, exploration=0.5, random_state=0)
    visits = simulator.visits(10_000, day=0)
    best = simulator.best_lists(visits, n_ranks=4)
    worst = simulator.best_lists(visits, n_ranks=12)[:, ::-1][:, :4]
    truth = simulator.expected_clicks(visits, best).mean()
    shown = simulator.show(visits, worst)
    shown["target"] = simulator.examined_in(best, shown)
    found = [
        item_position_value(log["clicked"], log["list_id"], log["propensity"], log["target"])
        for _, log in shown.groupby(shown["list_id"] // 200)
    ]
    values = np.array([estimate.value for estimate in found])
    assert len(found) == 50
    assert found[0].n_units == 200
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(len(found))
    bounds = np.array([estimate.interval() for estimate in found])
    assert np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])) >= 0.88


def test_by_hand():
    rewards, propensities, probabilities = [1, 0, 2], [0.5, 0.25, 1.0], [1.0, 0.5, 0.5]
    log = rewards, propensities, probabilities  # weights 2, 2, 1/2
    assert ips_value(*log).value == pytest.approx(1.0)
    assert snips_value(*log).value == pytest.approx(3 / 4.5)
    assert ips_value(*log).effective_sample_size == pytest.approx(4.5**2 / 8.25)
    assert ips_value(*log, clip=1).value == pytest.approx(2 / 3)
    predictions = [1, 1, 1], [0.5, 0.5, 0.5]
    assert doubly_robust_value(*log, predictions).value == pytest.approx(0.5 + (0 - 2 + 0.5) / 3)


def test_an_ips_standard_error_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    rewards, weights = rng.random(50), rng.random(50)
    estimate = ips_value(rewards, np.ones(50), weights)
    terms = rewards * weights
    assert estimate.standard_error == pytest.approx(terms.std(ddof=1) / np.sqrt(50))
    lower, upper = estimate.interval(0.9)
    assert (lower + upper) / 2 == pytest.approx(estimate.value)
    assert upper - lower < np.diff(estimate.interval())[0]


def test_groups_count_once():
    """A log of which each row is there four times says no more than the log itself."""
    rng = np.random.default_rng(0)
    columns = rng.random(50), rng.uniform(0.5, 1, 50), rng.random(50)
    repeated, users = [np.repeat(c, 4) for c in columns], np.repeat(np.arange(50), 4)
    for estimator in (ips_value, snips_value):
        once, clustered = estimator(*columns), estimator(*repeated, groups=users.astype(str))
        assert clustered.value == pytest.approx(once.value)
        assert clustered.standard_error == pytest.approx(once.standard_error)
        assert clustered.n_units == 50
        assert estimator(*repeated).standard_error < 0.6 * once.standard_error


def test_one_unit_has_no_standard_error():
    estimate = ips_value([1, 1], [1, 1], [1, 1], groups=["a", "a"])
    assert estimate.value == 1
    assert np.isnan([estimate.standard_error, *estimate.interval()]).all()


def test_no_overlap():
    assert ips_value([1, 0], [0.5, 0.5], [0, 0]) == PolicyValue(0.0, 0.0, 0.0, 2)
    with pytest.raises(ValueError, match="probabilities: all 2 rows are 0"):
        snips_value([1, 0], [0.5, 0.5], [0, 0])


ESTIMATORS = {
    "ips": ips_value,
    "snips": snips_value,
    "dr": partial(doubly_robust_value, predictions=([0.5] * 3, [0.5] * 3)),
    "item position": lambda *log, **options: item_position_value(
        log[0], [0, 0, 1], log[1], log[2], **options
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: [0.5, 0.0, 1.0]}, "propensities: 1 of 3 rows are not above 0"),
        ({1: [0.5, 1.5, 2.0]}, "propensities: 2 of 3 rows are not above 0"),
        ({1: [0.5, np.nan, 1.0]}, "propensities: 1 of 3 rows are NaN"),
        ({1: [0.5, 0.5]}, "propensities has 2 rows where the log has 3"),
        ({2: [0.5, -0.1, 1.0]}, "probabilities: 1 of 3 rows are not between 0 and 1"),
        ({2: [0.5, np.inf, 1.0]}, "probabilities: 1 of 3 rows are NaN or inf"),
        ({0: [1, np.nan, 0]}, "(rewards|clicked): 1 of 3 rows are NaN"),
        ({0: []}, "(rewards|clicked) is empty"),
    ],
)
def test_bad_columns_are_named(name, change, message):
    columns = {0: [1, 0, 1], 1: [0.5, 0.5, 1.0], 2: [0.5, 0.5, 1.0]} | change
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](*columns.values())


def test_bad_options_are_named():
    log = [1, 0], [0.5, 0.5], [0.5, 0.5]
    with pytest.raises(ValueError, match="clip must be positive"):
        ips_value(*log, clip=0)
    with pytest.raises(ValueError, match="groups has shape"):
        ips_value(*log, groups=["a"])
    with pytest.raises(ValueError, match="predictions must be a pair"):
        doubly_robust_value(*log, [0.5])
    with pytest.raises(ValueError, match=r"predictions\[1\] has 3 rows"):
        doubly_robust_value(*log, ([0.5, 0.5], [0.5] * 3))
    with pytest.raises(ValueError, match="confidence_level must be between 0 and 1"):
        ips_value(*log).interval(95)


def test_overflow_and_wrong_types_are_named():
    half = [0.5, 0.5]
    with pytest.raises(ValueError, match="propensities: 1 of 2 rows are so near 0"):
        ips_value([1, 0], [1e-320, 1], half)
    assert ips_value([1, 0], [1e-320, 1], half, clip=2).value == 1.0
    with pytest.raises(ValueError, match="rewards: 1 of 2 rows are larger than float32"):
        snips_value([1e308, 0], half, half)
    with pytest.raises(ValueError, match=r"rewards must be one column of shape \(n,\)"):
        ips_value(None, half, half)
    with pytest.raises(ValueError, match=r"predictions\[0\] must be one column"):
        doubly_robust_value([1, 0], half, half, half)
    with pytest.raises(ValueError, match="clicked: 1 of 2 rows are other than 0 and 1"):
        item_position_value([2, 0], [1, 1], half, half)
    for clip in ("a", True):
        with pytest.raises(ValueError, match="clip must be positive"):
            ips_value([1, 0], half, half, clip=clip)
    with pytest.raises(ValueError, match="confidence_level must be"):
        ips_value([1, 0], half, half).interval("a")
