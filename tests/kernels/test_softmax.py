"""Kernels of sampled softmax against NumPy loops in double precision."""

import copy
import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import kernels

N_USERS, N_ITEMS, N_NEGATIVES, N_RECENT = 5, 9, 4, 3
RATE, REG, START = 0.1, 0.3, 0.01
TABLES = (
    "user_factors", "user_squares", "input_factors", "input_squares", "item_factors",
    "item_squares",
)  # fmt: skip

shapes = pytest.mark.parametrize(("n_factors", "own"), [(1, True), (5, True), (67, False)])


def no_lists(n):
    """Return the last arguments of `softmax_pass`."""
    return np.empty((n, 0), np.int32), 0, *np.empty((2, 0), np.int32)


def make_tables(rng, n_factors, own):
    shapes = {
        "user_factors": (N_USERS, n_factors if own else 0),
        "input_factors": (N_ITEMS, n_factors),
        "item_factors": (N_ITEMS, n_factors),
    }
    tables = {name: rng.normal(size=shape) / n_factors**0.5 for name, shape in shapes.items()}
    for side, n in (("user", N_USERS), ("input", N_ITEMS), ("item", N_ITEMS)):
        tables[f"{side}_squares"] = rng.uniform(0, 0.1, n)
    return {name: tables[name].astype(np.float32) for name in TABLES}


def double(tables):
    return {name: table.astype(np.float64) for name, table in tables.items()}


def equal(tables, expected, tolerance=2e-5):
    for name, table in tables.items():
        assert_allclose(table, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def move(t, name, row, gradient, size, penalty):
    """Take a step of row-wise Adagrad."""
    t[f"{name}_squares"][row] += size
    step = RATE / np.sqrt(START + t[f"{name}_squares"][row])
    factors = t[f"{name}_factors"][row]
    factors[:] = max(1 - step * REG * penalty, 0) * factors + step * gradient


def learn_candidates(t, state, codes, offsets, weight):
    """Move the candidates; return the gradient of the state, and the rest of the probability."""
    scores = offsets + t["item_factors"][codes] @ state
    scores[1:][codes[1:] == codes[0]] = -np.inf  # a draw of what was taken does not count
    softmax = np.exp(scores - scores.max())
    softmax /= softmax.sum()
    pull = np.zeros_like(state)
    for j, code in enumerate(codes):
        error = (j == 0) - softmax[j]
        if abs(error) >= 1e-4:
            error *= weight
            pull += error * t["item_factors"][code]
            move(t, "item", code, error * state, error**2 * np.mean(state**2), abs(error))
    return pull, weight * (1 - softmax[0])


def learn_user(t, user, pull, gap):
    if t["user_factors"].shape[1]:
        move(t, "user", user, pull, np.mean(pull**2), gap)


# --------------------------------------------------------------------- softmax_epoch


def epoch_reference(t, rows, negatives, offset, decay, starts):
    own = t["user_factors"].shape[1] > 0
    for first, last in itertools.pairwise(starts):
        users, items, weight = (column[first:last] for column in rows)
        pulls, gaps, shares = [], [], []
        for now in range(last - first):
            # The weight of each earlier event: the norm is the root of their sum.
            share = decay ** np.arange(now - 1, -1, -1.0)
            share /= np.sqrt(share.sum()) if now else 1
            state = share @ t["input_factors"][items[:now]]
            state = state + t["user_factors"][users[now]] if own else state
            codes = np.append(items[now], negatives[first + now])
            pull, gap = learn_candidates(t, state, codes, offset[codes], weight[now])
            learn_user(t, users[now], pull, gap)
            pulls.append(pull)
            gaps.append(gap)
            shares.append(np.append(share, np.zeros(last - first - now)))
        for k in range(last - first - 2, -1, -1):
            later = [shares[now][k] for now in range(k + 1, last - first)]
            size = sum(c**2 * np.mean(d**2) for c, d in zip(later, pulls[k + 1 :], strict=True))
            pull = sum(c * d for c, d in zip(later, pulls[k + 1 :], strict=True))
            gap = sum(c * g for c, g in zip(later, gaps[k + 1 :], strict=True))
            move(t, "input", items[k], pull, size, gap)


@shapes
@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_epoch(n_factors, own, decay):
    rng = np.random.default_rng(0)
    starts = np.array([0, 1, 5, 12, 20])
    users = np.repeat([3, 0, 3, 2], np.diff(starts)).astype(np.int32)
    items = rng.integers(0, N_ITEMS, 20, np.int32)
    weight = rng.uniform(0.2, 1.7, 20).astype(np.float32)
    negatives = rng.integers(0, N_ITEMS, (20, N_NEGATIVES), np.int32)
    offset = rng.normal(size=N_ITEMS).astype(np.float32)
    tables = make_tables(rng, n_factors, own)
    expected = double(tables)
    epoch_reference(expected, (users, items, weight), negatives, offset, decay, starts)
    kernels.softmax_epoch(
        starts, users, items, weight, negatives, offset, np.float32(decay), np.float32(RATE),
        np.float32(REG), *tables.values(),
    )  # fmt: skip
    equal(tables, expected)


def test_epoch_follows_the_gradient_of_the_loss():
    """Without penalty and at a small rate, all tables move against the numerical gradient."""
    rng = np.random.default_rng(1)
    tables = double(make_tables(rng, 3, own=True))
    items, negatives = np.array([4, 2, 7]), rng.integers(0, N_ITEMS, (3, N_NEGATIVES))
    negatives[negatives == items[:, None]] = 8
    offset, decay = rng.normal(size=N_ITEMS), 0.6

    def loss(t):
        total = 0
        for now in range(3):
            share = decay ** np.arange(now - 1, -1, -1.0)
            share /= np.sqrt(share.sum()) if now else 1
            state = t["user_factors"][1] + share @ t["input_factors"][items[:now]]
            codes = np.append(items[now], negatives[now])
            scores = offset[codes] + t["item_factors"][codes] @ state
            total += np.log(np.exp(scores).sum()) - scores[0]
        return total

    given = [np.full(3, 1, np.int32), items.astype(np.int32), np.ones(3, np.float32)]
    moved = {name: table.astype(np.float32) for name, table in tables.items()}
    for name in TABLES[1::2]:
        moved[name][:] = 1e6  # so that the steps are equal
        tables[name][:] = 1e6
    kernels.softmax_epoch(
        np.array([0, 3]), *given, negatives.astype(np.int32), offset.astype(np.float32),
        np.float32(decay), np.float32(1), np.float32(0), *moved.values(),
    )  # fmt: skip
    for name in TABLES[::2]:
        numerical = np.zeros_like(tables[name])
        for place in np.ndindex(numerical.shape):
            for sign in (1, -1):
                shifted = {key: table.copy() for key, table in tables.items()}
                shifted[name][place] += sign * 1e-4
                numerical[place] += sign * loss(shifted) / 2e-4
        step = moved[name] - tables[name].astype(np.float32)
        assert_allclose(1000 * step, -numerical, rtol=0.01, atol=2e-3, err_msg=name)


# ------------------------------------------------------------- softmax_states, _pass


def make_recent(rng):
    recent = rng.integers(1, N_ITEMS + 1, (N_USERS, N_RECENT)).astype(np.int32)
    recent[1], recent[2, 1:] = 0, 0
    return recent


def state_reference(t, user, recent, weights):
    codes = recent[user][recent[user] > 0] - 1
    share = weights[: len(codes)].astype(np.float64)
    share = share / np.sqrt(share.sum()) if len(codes) else share
    state = share @ t["input_factors"][codes]
    return state + t["user_factors"][user] if t["user_factors"].shape[1] else state, codes, share


@shapes
def test_states(n_factors, own):
    rng = np.random.default_rng(2)
    tables, recent = make_tables(rng, n_factors, own), make_recent(rng)
    weights = np.array([1, 0.5, 0.25], np.float32)
    users = np.array([0, 1, -1, 2, 4])
    states = np.full((5, n_factors), np.nan, np.float32)
    kernels.softmax_states(
        users, recent, weights, tables["user_factors"], tables["input_factors"], states
    )
    for user, state in zip(users, states, strict=True):
        expected = state_reference(double(tables), user, recent, weights)[0] if user >= 0 else 0
        assert_allclose(state, np.broadcast_to(expected, n_factors), rtol=1e-5, atol=1e-6)


def pass_reference(t, rows, negatives, recent, weights, counts, n_items, half_life):
    """Learn the rows; popularities are summed over all events each time."""
    past, scored = [(i, -np.inf, 0.0) for i in range(N_ITEMS)], []
    for row, (user, item, time, w) in enumerate(zip(*rows, strict=True)):

        def popularity(now):
            total = np.zeros(N_ITEMS)
            for code, then, value in past:
                total[code] += value and value * 2 ** ((then - now) / half_life)
            return total

        newest = max(then for _, then, _ in past)
        state, codes, share = state_reference(t, user, recent, weights)
        before = np.log(0.5 + popularity(newest)[item])
        scored.append(state @ t["item_factors"][item] + 0.7 * before)
        n_items = max(n_items, item + 1)
        if w == 0:
            continue
        past.append((item, time, w))
        counts[item] += 1
        drawn = 0.5 / n_items + 0.5 * counts / counts.sum()
        offset = np.log((0.5 + popularity(max(newest, time))) / drawn)
        candidates = np.append(item, negatives[row])
        pull, gap = learn_candidates(t, state, candidates, offset[candidates], w)
        learn_user(t, user, pull, gap)
        for code, c in zip(codes, share, strict=True):
            move(t, "input", code, c * pull, c**2 * np.mean(pull**2), c * gap)
        recent[user] = np.append(item + 1, recent[user][:-1])
    return np.array(scored), popularity


@shapes
@pytest.mark.parametrize("half_life", [np.inf, 10.0])
def test_pass(n_factors, own, half_life):
    rng = np.random.default_rng(3)
    n = 30
    tables, recent = make_tables(rng, n_factors, own), make_recent(rng)
    weights = np.array([1, 0.5, 0.25], np.float32)
    users = rng.integers(0, N_USERS, n).astype(np.int32)
    items = np.minimum(rng.integers(0, N_ITEMS, n), 4 + np.arange(n)).astype(np.int32)
    times = np.sort(rng.uniform(0, 60, n))
    times[[7, 9]] = times[[9, 7]]
    times[20:] += 1e4 * (half_life < 100)  # so late that the counts get another unit
    weight = (rng.uniform(0.2, 1.7, n) * (rng.random(n) < 0.8)).astype(np.float32)
    negatives = np.minimum(rng.integers(0, N_ITEMS, (n, N_NEGATIVES)), 4 + np.arange(n)[:, None])
    negatives = negatives.astype(np.int32)
    counts, popularity = np.zeros((2, N_ITEMS), np.float32)
    clock, scored = np.full(2, -np.inf), np.empty(n, np.float32)
    expected, past, count = double(tables), recent.copy(), np.zeros(N_ITEMS)
    rows = users, items, times, weight
    said, popular = pass_reference(expected, rows, negatives, past, weights, count, 5, half_life)
    kernels.softmax_pass(
        *rows, negatives, scored, 5, 0, half_life, np.float32(0.7), np.float32(RATE),
        np.float32(REG), clock, recent, weights, *tables.values(), counts, popularity, *no_lists(n),
    )  # fmt: skip
    equal(tables, expected)
    assert_allclose(scored, said, rtol=1e-4, atol=1e-4)
    assert_array_equal(recent, past)
    assert_array_equal(counts, count)
    newest = times[weight > 0].max()
    unit = 2 ** ((clock[0] - newest) / half_life) if half_life < np.inf else 1
    assert_allclose(unit * popularity, popular(newest), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("half_life", [np.inf, 10.0])
def test_pass_lists_the_best_unseen_items_before_each_event(half_life):
    rng = np.random.default_rng(6)
    n, k, n_known = 40, 4, 5
    tables, recent = make_tables(rng, 5, own=True), make_recent(rng)
    weights = np.array([1, 0.5, 0.25], np.float32)
    users = rng.integers(0, N_USERS, n).astype(np.int32)
    items = np.minimum(rng.integers(0, N_ITEMS, n), n_known - 1 + np.arange(n)).astype(np.int32)
    times = np.sort(rng.uniform(0, 60, n))
    times[20:] += 1e4 * (half_life < 100)
    weight = (rng.random(n) < 0.8).astype(np.float32)
    negatives = np.zeros((n, N_NEGATIVES), np.int32)
    counts, popularity = rng.uniform(0, 3, (2, N_ITEMS)).astype(np.float32)
    popularity[n_known:] = 0
    # User 0 has seen item 2 before the call; entry 1 + t is of row t.
    log_user, log_item = np.append(0, users), np.append(2, items).astype(np.int32)
    previous = np.array(
        [max(np.flatnonzero(log_user[:e] == log_user[e]), default=-1) for e in range(n + 1)],
        np.int32,
    )
    clock, known, expected = np.full(2, -np.inf), n_known, np.empty((n, k), np.int32)
    state_then = copy.deepcopy((clock, recent, weights, *tables.values(), counts, popularity))
    for t in range(n):
        state = np.empty((1, 5), np.float32)
        inputs = tables["user_factors"], tables["input_factors"]
        kernels.softmax_states(users[t : t + 1].astype(np.int64), recent, weights, *inputs, state)
        unit = 2 ** ((clock[0] - clock[1]) / half_life) if clock[1] > clock[0] else 1
        scores = tables["item_factors"] @ state[0] + 0.7 * np.log(0.5 + unit * popularity)
        scores[known:] = -np.inf
        scores[log_item[: t + 1][log_user[: t + 1] == users[t]]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        expected[t] = np.where(scores[best] > -np.inf, best, -1)
        row = slice(t, t + 1)
        columns = users[row], items[row], times[row], weight[row], negatives[row]
        n_learned = np.count_nonzero(weight[:t])
        kernels.softmax_pass(
            *columns, np.empty(1, np.float32), known, n_learned, half_life, np.float32(0.7),
            np.float32(RATE), np.float32(REG), clock, recent, weights, *tables.values(), counts,
            popularity, *no_lists(1),
        )  # fmt: skip
        known = max(known, int(items[t]) + 1)
    lists = np.empty((n, k), np.int32)
    kernels.softmax_pass(
        users, items, times, weight, negatives, np.empty(n, np.float32), n_known, 0, half_life,
        np.float32(0.7), np.float32(RATE), np.float32(REG), *state_then, lists, 1, previous,
        log_item,
    )  # fmt: skip
    assert_array_equal(lists, expected)
    assert (lists == -1).any()


# -------------------------------------------------------------------- draw_negatives


def test_negatives_are_half_uniform_and_half_earlier_events():
    rng = np.random.default_rng(4)
    n, m, size = 4000, 6, 500
    items = np.where(rng.random(n) < 0.8, 1, rng.integers(0, 8, n)).astype(np.int32)
    items[3000] = 12  # new, as are 8 to 11
    weight = np.ones(n, np.float32)
    weight[::10] = 0
    draws = rng.integers(0, 2**32, (np.count_nonzero(weight), m + 1), dtype=np.uint32)
    sample, out = np.zeros(size, np.int32), np.empty((n, m), np.int32)
    kernels.draw_negatives(items, weight, draws, 8, sample, 0, out)
    counted = np.flatnonzero(weight)
    assert_array_equal(out[::10], np.repeat(items[::10, None], m, axis=1))
    uniform, events = out[counted, : m // 2], out[counted[1:], m // 2 :]
    shares = np.bincount(uniform[counted < 3000].ravel(), minlength=13) / (3 * 2700)
    assert_allclose(shares, np.append(np.full(8, 1 / 8), np.zeros(5)), atol=0.02)
    shares = np.bincount(uniform[counted >= 3000].ravel(), minlength=13) / (3 * 900)
    assert_allclose(shares, 1 / 13, atol=0.03)
    assert_allclose((events == 1).mean(), (items == 1).mean(), atol=0.04)
    assert_allclose((sample == 1).mean(), (items == 1).mean(), atol=0.06)


def test_negatives_do_not_depend_on_later_events():
    rng = np.random.default_rng(5)
    items = rng.integers(0, 8, 60).astype(np.int32)
    draws = rng.integers(0, 2**32, (60, 5), dtype=np.uint32)
    weight = np.ones(60, np.float32)

    def draw(parts):
        sample, out, n_items = np.zeros(20, np.int32), np.empty((60, 4), np.int32), 2
        for rows in parts:
            kernels.draw_negatives(
                items[rows], weight[rows], draws[rows], n_items, sample, rows.start, out[rows]
            )
            n_items = max(n_items, int(items[rows].max()) + 1)
        return out, sample

    whole = draw([slice(0, 60)])
    for mine, theirs in zip(draw([slice(t, t + 1) for t in range(60)]), whole, strict=True):
        assert_array_equal(mine, theirs)
    # Each row draws items of events before it, or from those known at its own.
    known = np.maximum.accumulate(np.maximum(items, 1))
    assert (whole[0] <= known[:, None]).all()
    for row in range(1, 60):
        assert np.isin(whole[0][row, 2:], items[:row]).all()
