"""Compiled kernels against NumPy loops in double precision."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sklearn_recft import kernels
from sklearn_recft.kernels import _compile

N_USERS, N_ITEMS = 6, 8
TABLES = (
    "mean", "user_bias", "item_bias", "user_factors", "item_factors", "context_weight",
    "user_count", "item_count",
)  # fmt: skip
RATES = np.array([8.0, 0.05, 5.0, 0.002, 0.03, 0.30, 100.0, 1.0, 0.0075, 0.02, np.inf], np.float32)
BPR_RATES = np.array([0.3, 0.1, 0.02, 0.01], np.float32)
NEWEST = 3

losses = pytest.mark.parametrize("loss", [kernels.SQUARED_ERROR, kernels.LOG_LOSS])
shapes = pytest.mark.parametrize(("n_factors", "n_context"), [(1, 0), (5, 2), (64, 0), (67, 3)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make_tables(rng, n_factors, n_context, *, new=0):
    """Make tables of a fitted model; the last ``new`` users and items have no events."""
    tables = {
        "mean": rng.normal(size=1),
        "user_bias": rng.normal(size=N_USERS),
        "item_bias": rng.normal(size=N_ITEMS),
        "user_factors": rng.normal(size=(N_USERS, n_factors)) / np.sqrt(n_factors),
        "item_factors": rng.normal(size=(N_ITEMS, n_factors)) / np.sqrt(n_factors),
        "context_weight": rng.normal(size=n_context),
        "user_count": rng.integers(1, 30, N_USERS),
        "item_count": rng.integers(1, 30, N_ITEMS),
    }
    tables["user_count"][N_USERS - new :] = tables["item_count"][N_ITEMS - new :] = 0
    return {name: table.astype(np.float32) for name, table in tables.items()}


def make_rows(rng, n, loss, n_context, *, weighted=True):
    """Make rows with repeated ids; a quarter of them have weight 0."""
    target = rng.integers(0, 2, n) if loss == kernels.LOG_LOSS else rng.normal(3, 1, n)
    weight = rng.uniform(0.2, 1.7, n) * (rng.random(n) < 0.75) if weighted else np.ones(n)
    rows = rng.integers(0, N_USERS, n), rng.integers(0, N_ITEMS, n), target, weight
    context = rng.normal(size=(n, n_context)).astype(np.float32)
    types = np.int32, np.int32, np.float32, np.float32
    return [*(row.astype(kind) for row, kind in zip(rows, types, strict=True)), context]


def double(tables):
    return {name: table.astype(np.float64) for name, table in tables.items()}


def equal(tables, expected, tolerance=1e-5):
    for name in TABLES:
        np.testing.assert_allclose(
            tables[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


# ------------------------------------------------------------------------- sgd_epoch


def sgd_reference(t, rows, rate, bias_rate, user_reg, item_reg, bias_reg, loss):
    for u, i, y, w, x in zip(*rows, strict=True):
        p, q = t["user_factors"][u].copy(), t["item_factors"][i].copy()
        score = t["mean"][0] + t["user_bias"][u] + t["item_bias"][i] + p @ q
        score += x @ t["context_weight"]
        e = y - (sigmoid(score) if loss == kernels.LOG_LOSS else score)
        t["user_bias"][u] += w * bias_rate * (e - bias_reg * t["user_bias"][u])
        t["item_bias"][i] += w * bias_rate * (e - bias_reg * t["item_bias"][i])
        t["context_weight"] += w * bias_rate * e * x / (1 + x @ x)
        t["user_factors"][u] += w * rate * (e * q - user_reg[u] * p)
        t["item_factors"][i] += w * rate * (e * p - item_reg[i] * q)


@losses
@shapes
def test_sgd_epoch(loss, n_factors, n_context):
    rng = np.random.default_rng(n_factors)
    tables = make_tables(rng, n_factors, n_context)
    expected = double(tables)
    rows = make_rows(rng, 80, loss, n_context)
    user_reg, item_reg = (rng.uniform(0, 0.2, n).astype(np.float32) for n in (N_USERS, N_ITEMS))
    rate, bias_rate, bias_reg = map(np.float32, (0.05, 0.03, 0.02))
    kernels.sgd_epoch(
        *rows, rate, bias_rate, user_reg, item_reg, bias_reg, loss,
        *(tables[name] for name in TABLES[:6]),
    )  # fmt: skip
    sgd_reference(expected, rows, rate, bias_rate, user_reg, item_reg, bias_reg, loss)
    equal(tables, expected)


# ----------------------------------------------------------------------- online_pass


def run_online(tables, rows, moments, loss, *, rates=RATES, raw=False):
    scored = np.empty(len(rows[0]), np.float32)
    kernels.online_pass(
        *rows, scored, moments, rates, loss, NEWEST, raw, *(tables[name] for name in TABLES)
    )
    return scored


def new_moments():
    return np.array([0.0, 0.0, 0.0, np.inf, -np.inf])


def mean_before(table, code):
    return table[max(0, code - NEWEST) : code].mean(0) if code else 0 * table[0]


def online_reference(t, rows, moments, loss, rates=RATES):
    off_u, floor_u, off_i, floor_i, floor, extra, half, eps, reg, bias_reg, cap = rates.astype(
        float
    )
    targets, scored = [], []
    weights = []
    log_loss = loss == kernels.LOG_LOSS
    for u, i, y, w, x in zip(*rows, strict=True):
        n_u, n_i = min(t["user_count"][u], cap), t["item_count"][i]
        sd = np.sqrt(np.cov(targets, aweights=weights, ddof=0)) if len(targets) > 1 else 0.0
        scale = 2.0 if log_loss else sd if sd > 0 and sum(weights) > 1 else 1.0
        if n_u == 0:
            for name in ("user_factors", "user_bias"):
                t[name][u] = mean_before(t[name], u)
        if n_i == 0:
            t["item_bias"][i] = mean_before(t["item_bias"], i)
            t["item_factors"][i] *= np.sqrt(scale) if w > 0 else 1
        p, q = t["user_factors"][u].copy(), t["item_factors"][i].copy()
        score = t["mean"][0] + t["user_bias"][u] + t["item_bias"][i] + p @ q
        score += x @ t["context_weight"]
        score = sigmoid(score) if log_loss else score
        scored.append(
            np.clip(score, min(targets), max(targets)) if targets and not log_loss else score
        )
        if w == 0:
            continue
        targets.append(y)
        weights.append(w)
        mean, n = np.average(targets, weights=weights), sum(weights)
        if log_loss:
            share = (n * mean + 0.5) / (n + 1)
            e, t["mean"][0] = 4 * (y - score), np.log(share / (1 - share))
        else:
            e, t["mean"][0] = y - score - (mean - t["mean"][0]), mean
        step_u = min(w * max(1 / (n_u + off_u), floor_u), 1)
        step_i = min(w * max(1 / (n_i + off_i), floor_i), 1)
        t["user_bias"][u] += step_u * (e - bias_reg * t["user_bias"][u])
        t["item_bias"][i] += step_i * (e - bias_reg * t["item_bias"][i])
        t["context_weight"] += step_u * e * x / (1 + x @ x)
        rate_u = min(w * (floor + extra / (1 + n_u / half)), 1)
        rate_i = min(w * (floor + extra / (1 + n_i / half)), 1)
        t["user_factors"][u] += rate_u * (e * q / (eps * scale + q @ q) - reg * p)
        t["item_factors"][i] += rate_i * (e * p / (eps * scale + p @ p) - reg * q)
        t["user_count"][u] += w
        t["item_count"][i] += w
    squares = np.cov(targets, aweights=weights, ddof=0) * sum(weights)
    return scored, [
        sum(weights),
        np.average(targets, weights=weights),
        squares,
        min(targets),
        max(targets),
    ]


@losses
@shapes
@pytest.mark.parametrize("new", [0, 4])
def test_online_pass(loss, n_factors, n_context, new):
    rng = np.random.default_rng(n_factors + new)
    tables = make_tables(rng, n_factors, n_context, new=new)
    expected, moments = double(tables), new_moments()
    rows = make_rows(rng, 60, loss, n_context)
    scored = run_online(tables, rows, moments, loss)
    expected_scores, expected_moments = online_reference(expected, rows, moments, loss)
    np.testing.assert_allclose(scored, expected_scores, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(moments, expected_moments, rtol=1e-5)
    equal(tables, expected, 2e-5)


@losses
def test_online_pass_with_capped_counts_and_raw_scores(loss):
    rng = np.random.default_rng(3)
    tables, moments, rates = make_tables(rng, 5, 2), new_moments(), RATES.copy()
    rates[10] = 4
    copies = [double(tables), {name: table.copy() for name, table in tables.items()}]
    rows = make_rows(rng, 60, loss, 2)
    raw = run_online(tables, rows, moments, loss, rates=rates, raw=True)
    expected, _ = online_reference(copies[0], rows, new_moments(), loss, rates)
    equal(tables, copies[0], 2e-5)
    linked = run_online(copies[1], rows, new_moments(), loss, rates=rates)
    np.testing.assert_allclose(linked, expected, rtol=2e-5, atol=2e-5)
    if loss == kernels.LOG_LOSS:
        np.testing.assert_allclose(sigmoid(raw), linked, rtol=1e-5)
    else:
        seen = np.where(rows[3] > 0, rows[2], np.nan)
        low, high = (np.r_[np.nan, f.accumulate(seen)[:-1]] for f in (np.fmin, np.fmax))
        np.testing.assert_allclose(np.fmin(np.fmax(raw, low), high), linked, rtol=1e-5)


@losses
@pytest.mark.parametrize("changed", [1, 30, 59])
def test_online_pass_predictions_do_not_use_later_rows(loss, changed):
    rng = np.random.default_rng(changed)
    tables = make_tables(rng, 8, 2, new=3)
    rows = make_rows(rng, 60, loss, 2, weighted=False)
    others = make_rows(rng, 60, loss, 2)
    mixed = [np.concatenate([a[:changed], b[changed:]]) for a, b in zip(rows, others, strict=True)]
    # Of the first row that differs only the target does: it is not known when it is predicted.
    for column in (0, 1, 3, 4):
        mixed[column][changed] = rows[column][changed]
    mixed[2][changed] = 1 - rows[2][changed]
    copies = [{name: table.copy() for name, table in tables.items()} for _ in range(2)]
    one, other = (
        run_online(table, each, new_moments(), loss)
        for table, each in zip(copies, (rows, mixed), strict=True)
    )
    assert one[: changed + 1].tobytes() == other[: changed + 1].tobytes()
    assert (one[changed + 1 :] != other[changed + 1 :]).any() or changed == 59


def test_online_pass_row_by_row_equals_one_pass():
    rng = np.random.default_rng(0)
    whole = make_tables(rng, 8, 2, new=3)
    pieces, rows = {name: table.copy() for name, table in whole.items()}, make_rows(rng, 40, 0, 2)
    moments, piece_moments = new_moments(), new_moments()
    scored = run_online(whole, rows, moments, kernels.SQUARED_ERROR)
    one_by_one = [
        run_online(pieces, [column[j : j + 1] for column in rows], piece_moments, 0)[0]
        for j in range(40)
    ]
    assert scored.tolist() == one_by_one
    assert moments.tolist() == piece_moments.tolist()
    for name in TABLES:
        np.testing.assert_array_equal(whole[name], pieces[name])


@pytest.mark.parametrize(
    ("stretch", "shift"), [(1, 100), (0.25, 0), (8, 0), (20, -7), (3e-3, 2e-3)]
)
def test_online_pass_is_equivariant_to_shift_and_scaling_of_targets(stretch, shift):
    rng = np.random.default_rng(0)
    scores = []
    rows = make_rows(rng, 200, kernels.SQUARED_ERROR, 1)
    for a, b in ((1, 0), (stretch, shift)):
        rng = np.random.default_rng(1)
        tables = make_tables(rng, 16, 1)
        # A model of the targets so far, in their units; the last item waits with its noise.
        for name in ("user_bias", "item_bias", "context_weight"):
            tables[name] *= np.float32(a)
        for name in ("user_factors", "item_factors"):
            tables[name] *= np.float32(np.sqrt(a))
        tables["item_factors"][-1] /= np.float32(np.sqrt(a))
        tables["item_count"][-1] = 0
        tables["mean"][:] = 3 * a + b
        moments = np.array([40.0, 3 * a + b, 40 * a**2, -1 * a + b, 6 * a + b])
        each = [*rows[:2], (a * rows[2] + b).astype(np.float32), *rows[3:]]
        scores.append(run_online(tables, each, moments, kernels.SQUARED_ERROR))
    assert scores[0].std() > 0.1
    np.testing.assert_allclose(
        scores[1], stretch * scores[0] + shift, rtol=2e-4, atol=2e-4 * stretch
    )


# --------------------------------------------------------------------------- bpr_pass


def bpr_reference(t, users, items, negatives, weight, counting, keep):
    rate_p, rate_q, reg_p, reg_q = BPR_RATES.astype(float)
    scored = []
    for u, i, others, w in zip(users, items, negatives, weight, strict=True):
        p, q = t["user_factors"][u], t["item_factors"][i]
        if counting:
            if t["user_count"][u] == 0:
                p[:] = mean_before(t["user_factors"], u)
                t["user_bias"][u] = mean_before(t["user_bias"], u)
            scored.append(t["item_bias"][i] + p @ q)
            if w == 0:
                continue
            p *= keep
            t["user_count"][u] += w
            t["item_count"][i] += w
            t["item_bias"][i] = np.log1p(t["item_count"][i])
        for j in others[others != i]:
            other, old = t["item_factors"][j], p.copy()
            g = w * sigmoid(t["item_bias"][j] + p @ other - t["item_bias"][i] - p @ q)
            p += rate_p * g * (q - other - reg_p * p)
            q += rate_q * g * (old - reg_q * q)
            other += rate_q * g * (-old - reg_q * other)
    return scored


def run_bpr(tables, rows, negatives, *, counting, keep):
    scored = np.empty(len(rows[0]) if counting else 0, np.float32)
    kernels.bpr_pass(
        rows[0], rows[1], negatives, rows[3], scored, counting, np.float32(keep), BPR_RATES, NEWEST,
        *(tables[name] for name in (*TABLES[1:5], *TABLES[6:])),
    )  # fmt: skip
    return scored


@pytest.mark.parametrize("n_factors", [1, 5, 67])
@pytest.mark.parametrize(("counting", "keep"), [(False, 1.0), (True, 1.0), (True, 0.75)])
def test_bpr_pass(n_factors, counting, keep):
    rng = np.random.default_rng(n_factors)
    tables = make_tables(rng, n_factors, 0, new=3)
    expected = double(tables)
    rows = make_rows(rng, 60, kernels.SQUARED_ERROR, 0)
    negatives = rng.integers(0, N_ITEMS, (60, 3), dtype=np.int32)
    assert (negatives == rows[1][:, None]).any(), "some drawn items are the row's own"
    scored = run_bpr(tables, rows, negatives, counting=counting, keep=keep)
    expected_scores = bpr_reference(
        expected, rows[0], rows[1], negatives, rows[3].astype(float), counting, keep
    )
    np.testing.assert_allclose(scored, expected_scores, rtol=1e-5, atol=1e-5)
    equal(tables, expected)


@pytest.mark.parametrize("changed", [1, 30, 59])
def test_bpr_pass_scores_do_not_use_later_rows(changed):
    rng = np.random.default_rng(changed)
    tables = make_tables(rng, 8, 0, new=3)
    rows, others = (make_rows(rng, 60, 0, 0, weighted=False) for _ in range(2))
    drawn, redrawn = (rng.integers(0, N_ITEMS, (60, 3), dtype=np.int32) for _ in range(2))
    later = changed + 1
    mixed = [np.concatenate([a[:later], b[later:]]) for a, b in zip(rows, others, strict=True)]
    mixed[3][changed] = 0.5  # how much its own row is to weigh is no part of its score
    copies = [{name: table.copy() for name, table in tables.items()} for _ in range(2)]
    one = run_bpr(copies[0], rows, drawn, counting=True, keep=0.75)
    drawn[changed:] = redrawn[changed:]
    other = run_bpr(copies[1], mixed, drawn, counting=True, keep=0.75)
    assert one[:later].tobytes() == other[:later].tobytes()
    assert (one[later:] != other[later:]).any() or later == 60


# ---------------------------------------------------------------------------- fold_in

RIDGE = (0.02, 1.5, 0.03, 0.7)


def fold_in_problem(rng, n_factors, n=60, new=3):
    """Make a shuffled log of events of the last ``new`` users; one has a single event."""
    tables = make_tables(rng, n_factors, 0)
    users = rng.integers(N_USERS - new, N_USERS - 1, n).astype(np.int32)
    users[7] = N_USERS - 1
    items = rng.integers(0, N_ITEMS, n).astype(np.int32)
    residual, weight = rng.normal(size=n), rng.uniform(0.2, 2, n) * (rng.random(n) < 0.8)
    order = np.argsort(users, kind="stable")
    codes, starts = np.unique(users[order], return_index=True)
    return tables, (
        np.append(starts, n), order, codes, items, residual.astype(np.float32),
        weight.astype(np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("n_factors", [1, 5, 67])
@pytest.mark.parametrize("users", [True, False])
def test_fold_in_is_the_ridge_solution(n_factors, users):
    tables, problem = fold_in_problem(np.random.default_rng(n_factors), n_factors)
    bias, factors, others = (tables[f"{n}"] for n in ("user_bias", "user_factors", "item_factors"))
    expected, expected_bias = factors.astype(float), bias.astype(float)
    kernels.fold_in(*problem, *RIDGE, np.zeros(3), NEWEST, users, bias, factors, others)
    starts, rows, codes, items, residual, weight = problem
    for j, code in enumerate(codes):
        mine = rows[starts[j] : starts[j + 1]]
        design = np.column_stack([others[items[mine]], np.ones(len(mine))]).astype(float)
        expected_bias[code] = mean_before(expected_bias, code)
        if users:  # items keep the noise they hold
            expected[code] = mean_before(expected, code)
        start = np.append(expected[code], expected_bias[code])
        total = weight[mine].sum(dtype=float)
        ridge = np.full(n_factors + 1, RIDGE[0] * total + RIDGE[1])
        ridge[-1] = RIDGE[2] * total + RIDGE[3]
        weighted = design.T * weight[mine]
        solution = start + np.linalg.solve(
            weighted @ design + np.diag(ridge), weighted @ (residual[mine] - design @ start)
        )
        expected[code], expected_bias[code] = solution[:-1], solution[-1]
    np.testing.assert_allclose(factors, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bias, expected_bias, rtol=1e-5, atol=1e-5)


def test_fold_in_without_weight_gives_the_initial_values():
    tables, problem = fold_in_problem(np.random.default_rng(0), 5)
    bias, factors = tables["user_bias"], tables["user_factors"]
    expected = factors[: N_USERS - 3].mean(0)
    problem[-1][:] = 0
    kernels.fold_in(*problem, *RIDGE, np.zeros(3), 99, True, bias, factors, tables["item_factors"])
    for code in range(N_USERS - 3, N_USERS):
        np.testing.assert_allclose(factors[code], expected, rtol=1e-5)


def test_fold_in_starts_from_the_tables_and_holds_to_earlier_events():
    tables, problem = fold_in_problem(np.random.default_rng(0), 5)
    bias, factors, others = (tables[f"{n}"] for n in ("user_bias", "user_factors", "item_factors"))
    starts, rows, codes, items, residual, weight = problem
    earlier, first = np.array([0.0, 2.5, 40.0]), np.column_stack([factors, bias]).astype(float)
    kernels.fold_in(*problem, *RIDGE, earlier, -1, True, bias, factors, others)
    for j, code in enumerate(codes):
        mine = rows[starts[j] : starts[j + 1]]
        design = np.column_stack([others[items[mine]], np.ones(len(mine))]).astype(float)
        total = weight[mine].sum(dtype=float)
        ridge = np.full(6, RIDGE[0] * (total + earlier[j]) + RIDGE[1])
        ridge[-1] = RIDGE[2] * total + RIDGE[3] + earlier[j]
        weighted = design.T * weight[mine]
        expected = first[code] + np.linalg.solve(
            weighted @ design + np.diag(ridge), weighted @ (residual[mine] - design @ first[code])
        )
        found = np.append(factors[code], bias[code])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_kernels_run_without_a_cache_directory():
    code = """
from numba.core import caching
caching.CompileResultCacheImpl._locator_classes = []
import numpy as np
from sklearn_recft import kernels
from sklearn_recft.kernels import _compile
nothing = np.empty(0, np.int32)
indptr, columns = kernels.gather_seen(np.array([0]), nothing, nothing, nothing, np.arange(3))
assert indptr.tolist() == [0, 0] and not len(columns)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


_FIT_AND_PREDICT_TWICE = """
import os, sys
sys.path.insert(0, {tests!r})
import numpy as np
from tests.contract.helpers import PAIRS, fitted, make_news
from sklearn_recft import kernels
from sklearn_recft.kernels import _compile
from sklearn_recft.estimators import ALSRecommender, IncrementalMFRecommender
for _ in range(2):
    child = os.fork()  # which has compiled nothing, and imported all
    if not child:
        break
    assert os.waitpid(child, 0)[1] == 0
else:
    sys.exit()
rng = np.random.default_rng(0)
users, items = rng.integers(50, size=(2, 2000), dtype=np.int32)
times, target = np.sort(rng.random(2000)), rng.random(2000, np.float32)
shapes = 1, 50, 50, (50, 16), (50, 16), 0, 50, 50
tables = tuple(rng.random(shape, np.float32) for shape in shapes)
out, rates = np.empty((2000, kernels.N_SCORES)), np.full(10, 0.1, np.float32)
kernels.update_factorization(
    users, items, times, target, np.ones(2000, np.float32), np.array([0, 0, 0, np.inf, -np.inf]),
    rates, kernels.SQUARED_ERROR, 20, True, True, tables, out,
)
found = [out]
for model in (
    ALSRecommender(n_factors=8, random_state=0),
    IncrementalMFRecommender(n_factors=8, random_state=0),
    IncrementalMFRecommender(n_factors=8, loss="log_loss", random_state=0),
    IncrementalMFRecommender(n_factors=8, loss="bpr", random_state=0),
):
    found.append(fitted(model).partial_fit(*make_news()).predict(PAIRS))
print(*(part.tobytes().hex() for part in found), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_compiled_and_cached_kernels_are_bitwise_equal(tmp_path):
    code = _FIT_AND_PREDICT_TWICE.format(tests=str(Path(__file__).parents[2]))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    compiled, read = printed.splitlines()
    assert len(compiled) > 1000
    assert read == compiled


def _adds_up_and_stores(loop):
    """Whether an innermost loop adds up to a scalar and stores to one of several arrays."""
    body = [node for statement in loop.body for node in ast.walk(statement)]
    if any(isinstance(node, ast.For | ast.While) for node in body):
        return False
    adds = any(
        isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add | ast.Sub)
        and isinstance(node.target, ast.Name)
        and not isinstance(node.value, ast.Constant)
        for node in body
    )
    cells = [node for node in body if isinstance(node, ast.Subscript)]
    arrays = {ast.unparse(cell.value) for cell in cells}
    return adds and len(arrays) > 1 and any(isinstance(cell.ctx, ast.Store) for cell in cells)


def test_no_sum_depends_on_where_arrays_are():
    found = [
        f"{path.name}:{loop.lineno}"
        for path in Path(_compile.__file__).parent.glob("_*.py")
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        # Its sum is that of an error bound, with room for any order.
        if isinstance(function, ast.FunctionDef) and function.name != "quantize_rows"
        for loop in ast.walk(function)
        if isinstance(loop, ast.For) and _adds_up_and_stores(loop)
    ]
    assert found == []
