"""Compiled online features against dicts and plain loops."""

import math
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft import kernels

N_USERS, N_ITEMS, DAY, HALF_LIFE, NEWEST = 4, 5, 86_400.0, 2.0, 3
START = 1.7e9
RATES = np.array([8.0, 0.05, 5.0, 0.002, 0.03, 0.30, 100.0, 1.0, 0.0075, 0.02, np.inf], np.float32)
# Whole steps of time, so that ties are the rule, within a session or days apart.
steps = st.sampled_from([0.0, 0.0, 40.0, 3_599.0, 3_600.0, DAY, 9 * DAY])
weights = st.sampled_from([0.0, 0.25, 1.0, 1.0, 3.0])
rows = st.tuples(
    st.integers(0, N_USERS - 2), st.integers(0, N_ITEMS - 2), steps, st.integers(0, 1), weights
)
logs = st.lists(rows, max_size=40)
quick = settings(deadline=None, max_examples=30)


def columns_of(log):
    """Make the columns of a log with times from steps; the last user and item have no events."""
    users, items, gaps, label, weight = np.array(log, float).reshape(-1, 5).T
    times = START + np.cumsum(gaps)
    # Contiguous, as in the model: kernels are compiled for each layout.
    weight = weight.copy()
    return users.astype(np.int32), items.astype(np.int32), times, label.astype(np.float32), weight


def unwritten(n, n_columns):
    """Allocate a whole output array, as the model does."""
    return np.full((n, n_columns), np.nan, np.float32)


# ----------------------------------------------------------------------------- statistics


class StatisticsByHand:
    """Statistics in dicts, with the full history of each item."""

    def __init__(self):
        self.users, self.items, self.weight, self.labels = {}, {}, 0.0, 0.0

    @property
    def average(self):
        return (self.labels + 1) / (self.weight + 2)

    def above(self, labels, weight):
        rate = (labels + 5 * self.average) / (weight + 5)
        return math.log(rate / (1 - rate)) - math.log(self.average / (1 - self.average))

    def transform(self, user, item, now):
        out = [0.0] * 9
        if user in self.users:
            u = self.users[user]
            gap = max(now - u["last"], 0)
            out[:5] = [
                self.above(u["labels"], u["weight"]), math.log(1 + u["weight"]) / 3, u["quick"],
                u["slow"], math.log(1 + gap) / 5,
            ]  # fmt: skip
            out[5] = math.log(1 + u["session"]) / 3 if gap < 3600 else 0.0
        if item in self.items:
            events = self.items[item]
            now = max(now, *(time for time, _, _ in events))
            weight = sum(w for _, w, _ in events)
            popularity = sum(w * 0.5 ** ((now - time) / DAY / HALF_LIFE) for time, w, _ in events)
            labels = sum(w * label for _, w, label in events)
            out[6:] = [
                self.above(labels, weight), math.log(1 + weight) / 5, math.log(1 + popularity) / 3,
            ]  # fmt: skip
        return out

    def count(self, user, item, time, label, weight):
        if weight == 0:
            return
        new = {"weight": 0, "labels": 0, "quick": 0, "slow": 0, "session": 0, "last": -math.inf}
        u = self.users.setdefault(user, new)
        for name, share in (("quick", 0.3), ("slow", 0.1)):
            u[name] += min(share * weight, 1) * (label - self.average - u[name])
        u["session"] = u["session"] + 1 if time - u["last"] < 3600 else 1
        u["last"] = max(u["last"], time)
        u["weight"] += weight
        u["labels"] += weight * label
        self.items.setdefault(item, []).append((time, weight, label))
        self.weight += weight
        self.labels += weight * label

    def update(self, columns):
        """Transform the rows of each time before any of them is counted."""
        out = []
        for _, tied in groupby(zip(*columns, strict=True), key=lambda row: row[2]):
            tied = list(tied)
            out += [self.transform(*row[:3]) for row in tied]
            for row in tied:
                self.count(*row)
        return np.array(out).reshape(-1, 9)


def empty_statistics():
    widths = kernels.USER_STATISTICS, kernels.ITEM_STATISTICS
    return np.zeros((N_USERS, widths[0])), np.zeros((N_ITEMS, widths[1])), np.zeros(2)


def update_statistics(tables, columns):
    out = unwritten(len(columns[0]), kernels.N_STATISTICS)
    kernels.update_statistics(*columns, *tables, HALF_LIFE, out)
    return out


def transform_statistics(tables, users, items, times):
    out = unwritten(len(users), kernels.N_STATISTICS)
    kernels.transform_statistics(users, items, times, *tables, HALF_LIFE, out)
    return out


def every_pair(now):
    """Return every pair of user and item, unknown ones included, at one time."""
    users, items = (
        a.ravel().astype(np.int32)
        for a in np.meshgrid(np.arange(-1, N_USERS), np.arange(-1, N_ITEMS))
    )
    return users, items, np.full(len(users), now)


@given(logs, steps)
@quick
def test_statistics_equal_plain_loops(log, later):
    columns, tables, by_hand = columns_of(log), empty_statistics(), StatisticsByHand()
    found = update_statistics(tables, columns)
    np.testing.assert_allclose(found, by_hand.update(columns), rtol=1e-5, atol=1e-6)
    queries = every_pair(columns[2].max(initial=START) + later)
    expected = [by_hand.transform(*row) for row in zip(*queries, strict=True)]
    np.testing.assert_allclose(
        transform_statistics(tables, *queries), expected, rtol=1e-5, atol=1e-6
    )


@given(logs, st.randoms(use_true_random=False))
@quick
def test_out_of_order_rows_are_counted_at_their_time(log, random):
    """Each row in its own call, in any order."""
    columns, tables, by_hand = columns_of(log), empty_statistics(), StatisticsByHand()
    for row in random.sample(range(len(log)), len(log)):
        own = [column[row : row + 1] for column in columns]
        found = update_statistics(tables, own)
        np.testing.assert_allclose(found, by_hand.update(own), rtol=1e-5, atol=1e-6)
    for now in (START, columns[2].max(initial=START)):
        queries = every_pair(now)
        expected = [by_hand.transform(*row) for row in zip(*queries, strict=True)]
        np.testing.assert_allclose(
            transform_statistics(tables, *queries), expected, rtol=1e-5, atol=1e-6
        )


@given(logs, st.lists(st.integers(0, 40)))
@quick
def test_statistics_do_not_depend_on_the_split_into_calls(log, cuts):
    columns, whole, pieces = columns_of(log), empty_statistics(), empty_statistics()
    update_statistics(whole, columns)
    for begin, end in pairwise(sorted({0, len(log), *(min(cut, len(log)) for cut in cuts)})):
        update_statistics(pieces, [column[begin:end] for column in columns])
    for one, other in zip(whole, pieces, strict=True):
        assert one.tobytes() == other.tobytes()


@given(logs, steps)
@quick
def test_rows_of_weight_0_are_transformed_but_not_counted(log, later):
    columns, tables = columns_of(log), empty_statistics()
    update_statistics(tables, columns)
    before = [table.copy() for table in tables]
    rng, now = np.random.default_rng(0), columns[2].max(initial=START) + later
    users, items = rng.integers(0, N_USERS, 9), rng.integers(0, N_ITEMS, 9)
    queries = users.astype(np.int32), items.astype(np.int32), np.full(9, now)
    label, weight = np.ones(9, np.float32), np.zeros(9)
    found = update_statistics(tables, (*queries, label, weight))
    assert found.tobytes() == transform_statistics(tables, *queries).tobytes()
    for one, other in zip(tables, before, strict=True):
        assert one.tobytes() == other.tobytes()


def test_unknown_ids_have_zero_statistics():
    columns, tables = columns_of([(0, 1, 5.0, 1, 1.0), (1, 2, 5.0, 0, 2.0)]), empty_statistics()
    update_statistics(tables, columns)
    users, items, times = every_pair(START + 60)
    found = transform_statistics(tables, users, items, times)
    assert not found[~np.isin(users, [0, 1]), :6].any()
    assert not found[~np.isin(items, [1, 2]), 6:].any()
    known = found[np.isin(users, [0, 1])], found[np.isin(items, [1, 2])]
    assert (known[0][:, :6] != 0).all()
    assert (known[1][:, 6:] != 0).all()


def test_known_statistics_of_one_user_and_item():
    """Two positive labels in three events: the average is 1/2, then 2/3, 3/4 and 3/5."""
    log = [(0, 0, 0.0, 1, 1.0), (0, 0, DAY * HALF_LIFE, 1, 1.0), (0, 1, 100.0, 0, 1.0)]
    tables = empty_statistics()
    update_statistics(tables, columns_of(log))
    now = START + DAY * HALF_LIFE + 100
    queries = np.zeros(1, np.int32), np.zeros(1, np.int32), np.array([now + DAY * HALF_LIFE])
    (found,) = transform_statistics(tables, *queries).tolist()
    quick, slow = 0.0, 0.0
    for above in (1 - 1 / 2, 1 - 2 / 3, 0 - 3 / 4):
        quick, slow = quick + 0.3 * (above - quick), slow + 0.1 * (above - slow)
    rate = (2 + 5 * 3 / 5) / (3 + 5)
    left = 0.5 ** (100 / DAY / HALF_LIFE)
    expected = [
        math.log(rate / (1 - rate) / (3 / 2)), math.log(4) / 3, quick, slow,
        math.log(1 + DAY * HALF_LIFE) / 5, 0, math.log(5 / 7 / (2 / 7) / (3 / 2)), math.log(3) / 5,
        math.log(1 + (0.25 + 0.5) * left) / 3,
    ]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_huge_weight_has_finite_statistics():
    """Beside a weight of 1e25, the share of labels of 0 is rounded to 0."""
    tables = empty_statistics()
    update_statistics(tables, columns_of([(0, 0, 0.0, 1, 1e25), (1, 0, 5.0, 0, 1.0)]))
    assert np.isfinite(transform_statistics(tables, *every_pair(START + 60))).all()


# -------------------------------------------------------------------------- factorization


def make_tables(seed, n_factors=3):
    """Make tables without events; items have small random factors."""
    rng = np.random.default_rng(seed)
    shapes = [1, N_USERS, N_ITEMS, (N_USERS, n_factors), (N_ITEMS, n_factors), 0, N_USERS, N_ITEMS]
    tables = [np.zeros(shape, np.float32) for shape in shapes]
    tables[4][:] = 0.3 * rng.standard_normal((N_ITEMS, n_factors))
    return tables, np.array([0.0, 0.0, 0.0, np.inf, -np.inf])


def copied(state):
    tables, moments = state
    return [table.copy() for table in tables], moments.copy()


def same(state, other):
    for one, two in zip((*state[0], state[1]), (*other[0], other[1]), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def update_factorization(state, columns, loss, *, unit=False, items_learn=True):
    users, items, times, target, weight = columns
    out = unwritten(len(users), kernels.N_SCORES)
    kernels.update_factorization(
        users, items, times, target, weight.astype(np.float32), state[1], RATES, loss, NEWEST, unit,
        items_learn, tuple(state[0]), out,
    )  # fmt: skip
    return out


def transform_factorization(state, users, items, *, unit=False):
    out = unwritten(len(users), kernels.N_SCORES)
    kernels.transform_factorization(users, items, state[1], unit, tuple(state[0]), out)
    return out


def parts_by_hand(state, user, item, unit):
    (mean, b_u, b_i, p, q, _, n_u, n_i), moments = copied(state)
    scale = 1.0
    if unit and moments[0] > 1 and moments[2] > 0:
        scale = math.sqrt(moments[0] / moments[2])
    known = user >= 0 and n_u[user] > 0, item >= 0 and n_i[item] > 0
    return [
        b_u[user] * scale if known[0] else 0, b_i[item] * scale if known[1] else 0,
        p[user].astype(float) @ q[item] * scale if all(known) else 0, 0 if unit else mean[0],
    ]  # fmt: skip


def learn_by_hand(state, row, loss):
    """Learn one row by `online_pass`, which has its own reference test; return its score."""
    user, item, _, target, weight = row
    scored = np.empty(1, np.float32)
    kernels.online_pass(
        *(np.array([x], np.int32) for x in (user, item)),
        *(np.array([x], np.float32) for x in (target, weight)), np.zeros((1, 0), np.float32),
        scored, state[1], RATES, loss, NEWEST, False, *state[0],
    )  # fmt: skip
    return scored[0]


USER_TABLES, ITEM_TABLES = (1, 3, 6), (0, 2, 4, 7)  # the mean is frozen together with the items


def update_by_hand(state, columns, loss, unit, items_learn):
    out = []
    for _, tied in groupby(zip(*columns, strict=True), key=lambda row: row[2]):
        tied = list(tied)
        out += [parts_by_hand(state, row[0], row[1], unit) for row in tied]
        for row in (row for row in tied if row[4]):
            learned = copied(state)
            learn_by_hand(learned, row, loss)
            for place in (*USER_TABLES, *(ITEM_TABLES if items_learn else ())):
                state[0][place][:] = learned[0][place]
            if items_learn:
                state[1][:] = learned[1]
    return np.array(out).reshape(-1, 4)


losses = pytest.mark.parametrize(
    ("loss", "unit"), [(kernels.LOG_LOSS, False), (kernels.SQUARED_ERROR, True)]
)
learners = pytest.mark.parametrize("items_learn", [True, False])


def started(log, loss, unit):
    """Return tables that have learned some rows, and the columns of the other rows."""
    columns, state = columns_of(log), make_tables(0)
    cut = len(log) // 3
    update_factorization(state, [column[:cut] for column in columns], loss, unit=unit)
    return state, [column[cut:] for column in columns]


@losses
@learners
@given(log=logs)
@quick
def test_factorization_equals_plain_loops(loss, unit, items_learn, log):
    state, columns = started(log, loss, unit)
    expected = copied(state)
    found = update_factorization(state, columns, loss, unit=unit, items_learn=items_learn)
    by_hand = update_by_hand(expected, columns, loss, unit, items_learn)
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)
    same(state, expected)


@losses
@given(log=logs)
@quick
def test_without_items_learn_items_and_the_mean_stay(loss, unit, log):
    state, columns = started(log, loss, unit)
    before = copied(state)
    update_factorization(state, columns, loss, unit=unit, items_learn=False)
    for place in ITEM_TABLES:
        assert state[0][place].tobytes() == before[0][place].tobytes()
    assert state[1].tobytes() == before[1].tobytes()
    seen = np.unique(columns[0][columns[4] > 0])
    changed = (state[0][6] != before[0][6]).nonzero()[0]
    assert changed.tolist() == seen.tolist()


@losses
@learners
@given(log=logs, later=st.sampled_from([40.0, DAY]))
@quick
def test_transform_equals_the_features_of_a_later_update(loss, unit, items_learn, log, later):
    """Bitwise equal, whether the row is learned or not."""
    state, columns = started(log, loss, unit)
    update_factorization(state, columns, loss, unit=unit, items_learn=items_learn)
    users, items, times = every_pair(columns[2].max(initial=START) + later)
    known = (users >= 0) & (items >= 0)
    transformed = transform_factorization(state, users, items, unit=unit)
    expected = [parts_by_hand(state, *pair, unit) for pair in zip(users, items, strict=True)]
    np.testing.assert_allclose(transformed, expected, rtol=1e-5, atol=1e-6)
    target = np.ones(len(users), np.float32)
    for weight in (target, 0 * target):
        rows = [column[known] for column in (users, items, times, target, weight)]
        updated = update_factorization(copied(state), rows, loss, unit=unit)
        assert updated.tobytes() == transformed[known].tobytes()


@losses
@learners
@given(log=st.lists(rows, min_size=1, max_size=40), data=st.data())
@quick
def test_features_use_strictly_earlier_rows_only(loss, unit, items_learn, log, data):
    columns = columns_of(log)
    place = data.draw(st.integers(0, len(log) - 1))
    one = update_factorization(make_tables(0), columns, loss, unit=unit, items_learn=items_learn)
    others = [column.copy() for column in columns]
    others[3][place] = 1 - others[3][place]
    others[4][place] += 1
    two = update_factorization(make_tables(0), others, loss, unit=unit, items_learn=items_learn)
    blind = columns[2] <= columns[2][place]
    assert one[blind].tobytes() == two[blind].tobytes()
    one = update_statistics(empty_statistics(), columns)
    two = update_statistics(empty_statistics(), others)
    assert one[blind].tobytes() == two[blind].tobytes()


@learners
def test_features_use_earlier_rows(items_learn):
    """Otherwise the test above could not fail."""
    log = [(0, 0, 60.0, 1, 1.0), (0, 0, 60.0, 1, 1.0)]
    found = []
    for label in (0.0, 1.0):
        columns = columns_of(log)
        columns[3][0] = label
        features = update_factorization(
            make_tables(0), columns, kernels.LOG_LOSS, items_learn=items_learn
        )
        found.append([features, update_statistics(empty_statistics(), columns)])
    for one, other in zip(*found, strict=True):
        assert (one[1] != other[1]).any()
        assert one[0].tobytes() == other[0].tobytes()


@losses
@given(log=logs, cuts=st.lists(st.integers(0, 40)))
@quick
def test_factorization_does_not_depend_on_the_split_into_calls(loss, unit, log, cuts):
    columns, whole, pieces = columns_of(log), make_tables(0), make_tables(0)
    update_factorization(whole, columns, loss, unit=unit)
    for begin, end in pairwise(sorted({0, len(log), *(min(cut, len(log)) for cut in cuts)})):
        part = [column[begin:end] for column in columns]
        update_factorization(pieces, part, loss, unit=unit)
    for one, other in zip((*whole[0], whole[1]), (*pieces[0], pieces[1]), strict=True):
        assert one.tobytes() == other.tobytes()


def test_terms_add_up_to_the_score():
    state = make_tables(0)
    log = [(u % 3, u % 4, 60.0, u % 2, 1.0) for u in range(40)]
    update_factorization(state, columns_of(log), kernels.LOG_LOSS)
    users, items, times = every_pair(START + DAY)
    parts = transform_factorization(state, users, items)
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        if state[0][6][user] and state[0][7][item] and min(user, item) >= 0:
            score = learn_by_hand(copied(state), (user, item, times[row], 1.0, 1.0), 1)
            assert 1 / (1 + math.exp(-parts[row].sum())) == pytest.approx(score, rel=1e-5)
