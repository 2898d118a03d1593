"""The module of matrix factorization against its equation, row by row."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sklearn_recft.modules import _factorization
from sklearn_recft.modules._factorization import MatrixFactorization

N_USERS, N_ITEMS, N_FACTORS, N_CONTEXT = 7, 9, 5, 2


@pytest.fixture
def module():
    torch_rng = torch.Generator().manual_seed(0)
    module = MatrixFactorization(N_FACTORS, N_CONTEXT)
    module.grow(N_USERS, N_ITEMS)
    for tensor in (*module.parameters(), module.user_count, module.item_count):
        tensor.data.normal_(generator=torch_rng)
    module.learn_context_scale(np.array([[1.0, 400], [3, 800], [2, 800]]))
    return module


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    context = rng.normal([2, 600], [1, 200], size=(40, N_CONTEXT))
    return rng.integers(-1, N_USERS, 40), rng.integers(-1, N_ITEMS, 40), context


def numbers(module):
    return {name: array.astype(float) for name, array in module.arrays().items()}


def expected_scores(module, users, items, context):
    """Compute mean + b_u + b_i + p_u . q_i + w . context; unknown ids get the newest rows' mean."""
    a, newest, out = numbers(module), module.NEWEST, []

    def look_up(side, code):
        tables = a[f"{side}_factors"], a[f"{side}_bias"]
        return [table[-newest:].mean(0) if code < 0 else table[code] for table in tables]

    scaled = (context - [2, 2000 / 3]) / [np.sqrt(2 / 3), np.std([400, 800, 800])]
    for u, i, x in zip(users, items, scaled, strict=True):
        (p, b_u), (q, b_i) = look_up("user", u), look_up("item", i)
        out.append(a["mean"][0] + b_u + b_i + p @ q + a["context_weight"] @ x)
    return out


@pytest.mark.parametrize("newest", [3, 300])
@pytest.mark.parametrize("block", [7, 65_536])
def test_scores_follow_the_equation(monkeypatch, module, rows, newest, block):
    monkeypatch.setattr(MatrixFactorization, "NEWEST", newest)
    monkeypatch.setattr(_factorization, "_BLOCK", block)
    scores = module.score(*rows)
    assert scores.dtype == np.float64
    assert (rows[0] < 0).any()
    assert (rows[1] < 0).any()
    np.testing.assert_allclose(scores, expected_scores(module, *rows), rtol=1e-5, atol=1e-5)


def test_forward_returns_scores_and_squared_norms(module, rows):
    users, items, context = rows
    known = (users >= 0) & (items >= 0)
    users, items, context = users[known], items[known], context[known]
    tensors = map(torch.as_tensor, (users, items, module.standardise(context)))
    score, norm = module(*tensors)
    a = numbers(module)
    np.testing.assert_allclose(score.detach(), module.score(users, items, context), rtol=1e-5)
    squares = [
        (a[f"{side}_factors"][codes] ** 2).sum(1) + a[f"{side}_bias"][codes] ** 2
        for side, codes in (("user", users), ("item", items))
    ]
    np.testing.assert_allclose(norm.detach(), sum(squares), rtol=1e-5)


def test_forward_with_a_negative_is_a_difference_of_scores(module, rows):
    users, items = np.abs(rows[0]), np.abs(rows[1])
    negative = (items + 3) % N_ITEMS
    user, item, other = map(torch.as_tensor, (users, items, negative))
    nothing = torch.zeros(40, N_CONTEXT)
    score, norm = module(user, item, nothing, other)
    one, other_one = module(user, item, nothing)[0], module(user, other, nothing)[0]
    np.testing.assert_allclose(score.detach(), (one - other_one).detach(), rtol=1e-4, atol=1e-5)
    a = numbers(module)
    squares = (a["user_factors"][users] ** 2).sum(1)
    for codes in (items, negative):
        squares = squares + (a["item_factors"][codes] ** 2).sum(1) + a["item_bias"][codes] ** 2
    np.testing.assert_allclose(norm.detach(), squares, rtol=1e-5)


@pytest.mark.parametrize("n_queries", [1, 2, 13])
@pytest.mark.parametrize("columns", [np.arange(N_ITEMS), np.array([1, 4, 8])], ids=["all", "some"])
def test_tiles_are_pieces_of_the_score_matrix(module, n_queries, columns):
    rng = np.random.default_rng(n_queries)
    users = rng.integers(-1, N_USERS, n_queries)
    context = rng.normal([2, 600], [1, 200], size=(n_queries, N_CONTEXT))
    every = np.repeat(np.arange(n_queries), len(columns))
    expected = module.score(users[every], np.tile(columns, n_queries), context[every])
    expected = expected.reshape(n_queries, len(columns))
    score = module.tile_scorer(users, columns, context)
    for r0, r1 in {(0, n_queries), (n_queries // 2, n_queries)}:
        for c0, c1 in ((0, len(columns)), (1, 3)):
            out = np.empty((r1 - r0, c1 - c0), np.float32)
            score(r0, r1, c0, c1, out)
            np.testing.assert_allclose(out, expected[r0:r1, c0:c1], rtol=1e-4, atol=1e-5)


def test_arrays_are_the_parameters_own_memory(module):
    module.arrays()["user_factors"][2] = 7
    module.arrays()["mean"][:] = -1
    assert module.user_factors[2].tolist() == [7] * N_FACTORS
    assert module.mean.item() == -1
    names = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    assert set(module.arrays()) == names


def test_growth_keeps_rows_and_adds_zeros(module):
    before = {name: array.copy() for name, array in module.arrays().items()}
    tensors = dict(module.named_parameters())
    module.grow(N_USERS + 3, N_ITEMS + 30)
    assert {id(t) for t in module.parameters()} == {id(t) for t in tensors.values()}
    for side, n, new in (("user", N_USERS, 3), ("item", N_ITEMS, 30)):
        for name in (f"{side}_factors", f"{side}_bias", f"{side}_count"):
            after = module.arrays()[name]
            assert len(after) == n + new
            np.testing.assert_array_equal(after[:n], before[name])
            assert not after[n:].any()


def test_restore_resets_rows_and_sizes(module):
    before = pickle.dumps({name: array.copy() for name, array in module.arrays().items()})
    touched = np.array([0, 3, 3, N_USERS + 1]), np.array([2, N_ITEMS])
    mark = module.mark(*touched)
    module.grow(N_USERS + 40, N_ITEMS + 40)
    for side, codes in zip(("user", "item"), touched, strict=True):
        for name in (f"{side}_factors", f"{side}_bias", f"{side}_count"):
            module.arrays()[name][codes] += 5
    module.arrays()["mean"][:] += 5
    module.arrays()["context_weight"][:] += 5
    module.restore(mark)
    assert pickle.dumps({name: array.copy() for name, array in module.arrays().items()}) == before


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_scores_the_same_and_is_independent(module, rows, clone):
    scores, twin = module.score(*rows), clone(module)
    assert twin.score(*rows).tolist() == scores.tolist()
    twin.grow(50, 50)
    twin.arrays()["user_factors"][:] = 0
    assert module.score(*rows).tolist() == scores.tolist()


def test_a_constant_column_of_context_is_centred_only():
    module = MatrixFactorization(2, 2)
    module.learn_context_scale(np.array([[5.0, 1], [5, 3]]))
    assert module.standardise(np.array([[5.0, 1], [6, 5]])).tolist() == [[0, -1], [1, 3]]


def test_without_ids_everyone_gets_the_mean():
    module = MatrixFactorization(3)
    module.arrays()["mean"][:] = 2.5
    unknown = np.array([-1, -1])
    assert module.score(unknown, unknown, np.empty((2, 0))).tolist() == [2.5, 2.5]
