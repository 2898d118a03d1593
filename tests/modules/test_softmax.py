"""Full and sampled softmax losses against torch's cross-entropy, in one chunk or many."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from sklearn_recft.modules import _softmax
from sklearn_recft.modules._softmax import sampled_softmax_loss, softmax_loss

N_ROWS, N_ITEMS, WIDTH = 37, 23, 6


@pytest.fixture
def plain(monkeypatch):
    """Force products in float32."""
    monkeypatch.setattr(_softmax, "has_fast_bfloat16", lambda device: False)


@pytest.fixture
def quick(monkeypatch):
    """Force products in bfloat16, which are slow but correct on any processor."""
    monkeypatch.setattr(_softmax, "has_fast_bfloat16", lambda device: True)


def draw(seed=0, n_rows=N_ROWS, n_items=N_ITEMS, width=WIDTH):
    """Draw states and a table with gradients, targets, and weights, one of them 0."""
    rng = np.random.default_rng(seed)
    states, table = (
        torch.tensor(rng.normal(size=(n, width)), dtype=torch.float32, requires_grad=True)
        for n in (n_rows, n_items)
    )
    target = torch.from_numpy(rng.integers(0, n_items, n_rows))
    weight = torch.tensor(rng.uniform(0.2, 3, n_rows), dtype=torch.float32)
    weight[1] = 0
    return states, table, target, weight


def draw_trends(n_rows=N_ROWS, n_items=N_ITEMS, n_periods=5, n_speeds=3):
    """Draw a mix with gradients, a period for each row, and the trends of each period."""
    rng = np.random.default_rng(9)
    mix = torch.tensor(rng.normal(size=(n_rows, n_speeds)), dtype=torch.float32, requires_grad=True)
    period = torch.from_numpy(rng.integers(0, n_periods, n_rows))
    trends = torch.from_numpy(rng.normal(size=(n_periods, n_speeds, n_items)).astype(np.float32))
    return mix, period, trends


def by_torch(states, table, target, weight, trending=None):
    logits = states @ table.T
    if trending is not None:
        mix, period, trends = trending
        logits = logits + torch.einsum("rk,rkv->rv", mix, trends[period])
    each = functional.cross_entropy(logits, target, reduction="none")
    return (each * weight).sum() / weight.sum()


def with_gradients(loss, states, table, *rest):
    """Return the loss and the gradients of three times it, to test the chain rule."""
    value = loss(states, table, *rest)
    return value.detach(), *torch.autograd.grad(3 * value, (states, table))


# ------------------------------------------------------------------------------- the catalogue


@pytest.mark.parametrize("rows_at_once", [1, 5, 36, 37, 1024])
def test_the_loss_is_cross_entropy_for_any_chunk_size(plain, rows_at_once, monkeypatch):
    monkeypatch.setattr(_softmax, "_ROWS_AT_ONCE", rows_at_once)
    given = draw()
    expected, found = with_gradients(by_torch, *given), with_gradients(softmax_loss, *given)
    assert found[0].shape == ()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert not found[1][1].any(), "a row of weight 0 has no gradient"


@pytest.mark.parametrize("rows_at_once", [1, 5, 1024])
def test_trends_add_to_the_logits_and_give_gradients_to_the_mix(plain, rows_at_once, monkeypatch):
    monkeypatch.setattr(_softmax, "_ROWS_AT_ONCE", rows_at_once)
    given, trending = draw(), draw_trends()
    inputs = (*given[:2], trending[0])
    values, gradients = [], []
    for loss in (by_torch, softmax_loss):
        value = loss(*given, trending)
        values.append(value.item())
        gradients.append(torch.autograd.grad(3 * value, inputs))
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert values[1] != pytest.approx(by_torch(*given).item(), rel=1e-2)
    for one, other in zip(*gradients, strict=True):
        assert other.any()
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_trends_in_bfloat16_have_close_gradients(quick):
    given, trending = draw(n_rows=300, n_items=500, width=32), draw_trends(300, 500)
    for numbers in (torch.float32, torch.float16):
        rounded = (*trending[:2], trending[2].to(numbers))
        found = [
            torch.autograd.grad(value, trending[0])[0].flatten()
            for value in (by_torch(*given, trending), softmax_loss(*given, rounded))
        ]
        assert functional.cosine_similarity(*found, dim=0) > 0.999


def test_the_gradient_equals_finite_differences(plain):
    """Finite differences of `softmax_loss` itself, not of torch's loss."""
    states, table, target, weight = draw(n_rows=4, n_items=3, width=2)
    _, *gradients = with_gradients(softmax_loss, states, table, target, weight)
    for parameter, gradient in zip((states, table), gradients, strict=True):
        for place in np.ndindex(*parameter.shape):
            losses = []
            for step in (0.01, -0.01):
                with torch.no_grad():
                    parameter[place] += step
                    losses.append(softmax_loss(states, table, target, weight).item())
                    parameter[place] -= step
            assert 3 * (losses[0] - losses[1]) / 0.02 == pytest.approx(
                gradient[place].item(), abs=1e-3
            )


def test_products_in_bfloat16_are_close(quick):
    given = draw(n_rows=300, n_items=500, width=32)
    expected, found = with_gradients(by_torch, *given), with_gradients(softmax_loss, *given)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=0.02)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, other), "these were never rounded"
        cosine = functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert cosine > 0.999
        assert one.norm() == pytest.approx(other.norm().item(), rel=0.02)


def test_the_loss_does_not_depend_on_the_scale_of_weights(plain):
    states, table, target, weight = draw()
    one, other = (softmax_loss(states, table, target, w).item() for w in (weight, 40 * weight))
    assert one == pytest.approx(other, rel=1e-6)


def test_a_target_of_probability_zero_has_a_finite_loss(plain):
    states, table = torch.full((1, 1), 300.0), torch.tensor([[1.0], [-1.0]])
    table.requires_grad_()
    loss = softmax_loss(states, table, torch.tensor([1]), torch.ones(1))
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss > 50
    np.testing.assert_allclose(table.grad, [[300.0], [-300.0]], rtol=1e-5)


def test_autocast_around_it_changes_nothing(plain):
    given = draw()
    outside = with_gradients(softmax_loss, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = softmax_loss(*given)
    within = value.detach(), *torch.autograd.grad(3 * value, given[:2])
    for one, other in zip(within, outside, strict=True):
        assert torch.equal(one, other)


# --------------------------------------------------------------------------------- the sample


def by_hand(states, table, target, weight, negative, log_q):
    total = 0.0
    for row in range(len(states)):
        s = states[row].double() @ table.double().T
        below = math.exp(s[target[row]])
        for code, log_share in zip(negative.tolist(), log_q.tolist(), strict=True):
            if code != target[row]:
                below += math.exp(s[code]) / (len(negative) * math.exp(log_share))
        total += weight[row].item() * -math.log(math.exp(s[target[row]]) / below)
    return total / weight.sum().item()


def draw_negatives(n, seed=0):
    """Draw items with unequal probabilities, and return the log-probability of each."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(1, 20, N_ITEMS, dtype=torch.float64)
    share /= share.sum()
    negative = torch.multinomial(share, n, replacement=True, generator=generator)
    return negative, share.log()[negative].float()


@pytest.mark.parametrize("n_negatives", [2, 9, 200])
def test_the_sampled_loss_equals_a_plain_loop(n_negatives):
    given, drawn = draw(), draw_negatives(n_negatives)
    with torch.no_grad():
        expected = by_hand(*given, *drawn)
    assert sampled_softmax_loss(*given, *drawn).item() == pytest.approx(expected, rel=1e-5)


def test_the_sampled_loss_is_unbiased(plain):
    """The mean of loss and gradients over many samples is close to the full softmax."""
    given = draw()
    expected = with_gradients(softmax_loss, *given)
    draws = [
        with_gradients(sampled_softmax_loss, *given, *draw_negatives(20_000, seed))
        for seed in range(10)
    ]
    for one, *others in zip(expected, *draws, strict=True):
        found = torch.stack(others).mean(0)
        np.testing.assert_allclose(found, one, atol=0.02 * one.abs().max())


def test_the_sampled_loss_uses_trends_like_the_full_loss(plain):
    """A sample that holds each item once, with uniform probabilities, is the full catalogue."""
    given, trending = draw(), draw_trends()
    negative = torch.arange(N_ITEMS)
    log_q = torch.full((N_ITEMS,), -math.log(N_ITEMS))
    inputs = (*given[:2], trending[0])
    whole, sampled = (
        by_torch(*given, trending),
        sampled_softmax_loss(*given, negative, log_q, trending),
    )
    assert sampled.item() == pytest.approx(whole.item(), rel=1e-5)
    for one, other in zip(*(torch.autograd.grad(x, inputs) for x in (whole, sampled)), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_a_negative_that_equals_the_target_is_ignored():
    states, table, target, weight = draw()
    negative, log_q = draw_negatives(30)
    same = negative == target[5]
    assert same.any()
    assert not same.all()
    row = (states[5:6], table, target[5:6], weight[5:6])
    found = sampled_softmax_loss(*row, negative, log_q)
    # The other negatives have weights as if only they had been drawn.
    left = log_q[~same] + math.log(30 / (~same).sum())
    assert found.item() == pytest.approx(
        sampled_softmax_loss(*row, negative[~same], left).item(), rel=1e-5
    )


def test_negatives_that_all_equal_the_target_give_no_gradient():
    states, table, _, weight = draw()
    target = torch.full((N_ROWS,), 4)
    negative, log_q = torch.full((3,), 4), torch.zeros(3)
    loss, *gradients = with_gradients(
        sampled_softmax_loss, states, table, target, weight, negative, log_q
    )
    assert loss == 0
    for gradient in gradients:
        assert not gradient.any()


# ------------------------------------------------------------------------------- the hardware


@pytest.mark.parametrize(
    ("able", "expected"),
    [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": 1}, False)],
)
def test_fast_bfloat16_is_detected(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert _softmax.has_fast_bfloat16(torch.device("cpu")) is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert _softmax.has_fast_bfloat16(torch.device("cpu")) is False
