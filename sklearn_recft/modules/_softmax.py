"""Next-item loss: softmax cross-entropy over the full catalogue or over sampled negatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024  # rows per chunk of logits over the full catalogue: bounds memory

Trending = tuple[Tensor, Tensor, Tensor]


def softmax_loss(
    states: Tensor, table: Tensor, target: Tensor, weight: Tensor, trending: Trending | None = None
) -> Tensor:
    """Compute the weighted mean of ``-log softmax(states @ table.T)[target]``.

    Parameters
    ----------
    states : Tensor of shape (M, d)
    table : Tensor of shape (V, d)
        Item vectors of the full catalogue.
    target : Tensor of shape (M,), int64
    weight : Tensor of shape (M,)
    trending : tuple of ``mix, period, trends``, or None
        Adds ``mix[r] @ trends[period[r]]`` to the logits of row r. The shapes are (M, k), (M,)
        int64, and (T, k, V). ``trends`` gets no gradient.

    Returns
    -------
    loss : Tensor of shape ()

    Notes
    -----
    Gradients are computed in the forward pass, one chunk of rows at a time, so the full M x V
    logits are never in memory. On hardware with fast bfloat16, products use bfloat16 and sums
    float32. The relative error of the loss is then below 2 %, and that of the gradient is
    smaller than the noise of a batch.
    """
    if trending is None:
        nothing = states.new_zeros(len(states), 0)
        return _FullSoftmax.apply(states, table, target, weight, nothing, target, nothing[None])
    mix, period, trends = trending
    order = period.argsort(stable=True)  # rows of one period share one product
    rows = states[order], table, target[order], weight[order]
    return _FullSoftmax.apply(*rows, mix[order], period[order], trends)


class _FullSoftmax(torch.autograd.Function):
    """Compute loss and gradients in one pass over the rows, which are sorted by period."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        target: Tensor,
        weight: Tensor,
        mix: Tensor,
        period: Tensor,
        trends: Tensor,
    ) -> Tensor:
        """Compute the loss, and save its gradients."""
        # A call instead of a `with` block: an interrupt cannot leave autocast disabled.
        exactly = torch.autocast(states.device.type, enabled=False)(_loss_and_gradients)
        loss, grad_x, grad_items, grad_mix = exactly(
            states, table, target, weight, mix, period, trends
        )
        ctx.save_for_backward(
            grad_x.to(states.dtype), grad_items.to(table.dtype), grad_mix.to(mix.dtype)
        )
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that `forward` saved."""
        grad_x, grad_items, grad_mix = (outer[0] * saved for saved in ctx.saved_tensors)
        return grad_x, grad_items, None, None, grad_mix, None, None


def _loss_and_gradients(
    states: Tensor,
    table: Tensor,
    target: Tensor,
    weight: Tensor,
    mix: Tensor,
    period: Tensor,
    trends: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the loss () and its gradients with respect to states, table and mix."""
    dtype = torch.bfloat16 if has_fast_bfloat16(states.device) else torch.float32
    x, items = states.to(dtype), table.to(dtype)
    transposed = items.T.contiguous()
    share = (weight / weight.sum()).float()
    grad_x, grad_items = torch.empty_like(x), torch.zeros_like(table, dtype=torch.float32)
    mixed = mix.to(dtype)
    grad_mix = torch.empty_like(mixed)
    loss = torch.zeros((), device=x.device, dtype=torch.float32)
    for rows in torch.arange(len(x), device=x.device).split(_ROWS_AT_ONCE):
        chunk, targets = x[rows], target[rows]
        each = torch.arange(len(rows), device=x.device), targets
        scores, first = chunk @ transposed, int(rows[0])  # (R, V) logits
        runs = _runs(period[rows]) if mix.shape[1] else []
        for which, run in runs:
            scores[run].addmm_(mixed[rows][run], trends[which].to(dtype))
        scores = torch.softmax(scores, 1)  # under the same name, which frees the logits
        correct = scores[each].float()
        loss -= (correct.clamp(min=1e-30).log() * share[rows]).sum()
        scores[each] -= 1
        scale = share[rows, None].to(dtype)
        torch.mm(scores, items, out=grad_x[first : first + len(rows)])
        for which, run in runs:
            its = slice(first + run.start, first + run.stop)
            torch.mm(scores[run], trends[which].to(dtype).T, out=grad_mix[its])
        grad_items += scores.T @ (chunk * scale)
    grad_x, grad_mix = (g.float() * share[:, None] for g in (grad_x, grad_mix))
    return loss, grad_x, grad_items, grad_mix


def _runs(period: Tensor) -> list[tuple[int, slice]]:
    """Find the runs of equal values in ascending ``period`` (n,)."""
    which, length = torch.unique_consecutive(period, return_counts=True)
    stop = length.cumsum(0)
    bounds = zip(which.tolist(), (stop - length).tolist(), stop.tolist(), strict=True)
    return [(number, slice(begin, end)) for number, begin, end in bounds]


def sampled_softmax_loss(
    states: Tensor,
    table: Tensor,
    target: Tensor,
    weight: Tensor,
    negative: Tensor,
    log_q: Tensor,
    trending: Trending | None = None,
) -> Tensor:
    """Compute the sampled softmax loss; all rows share one sample of negatives.

    The loss of a row is ``-log(e^s / (e^s + sum_j e^(s_j - log(K q_j))))``, where s is the logit
    of the target, and j runs over the K sampled items except the target. The correction
    ``log(K q_j)`` makes the sum an unbiased estimate of the sum over the catalogue.

    Parameters
    ----------
    states, table, target, weight : as for `softmax_loss`
    negative : Tensor of shape (K,), int64
    log_q : Tensor of shape (K,)
        Log-probability of each sampled item.
    trending : tuple or None
    """
    if trending is not None:
        mix, period, trends = trending
        order = period.argsort(stable=True)
        states, target, weight, mix, period = (
            column[order] for column in (states, target, weight, mix, period)
        )
    logits = states @ table[negative].T - (log_q + math.log(len(negative)))
    right = (states * table[target]).sum(1)
    if trending is not None:
        trend_logits = [
            mix[run] @ trends[which][:, negative].to(mix) for which, run in _runs(period)
        ]
        logits = logits + torch.cat(trend_logits)
        right = right + (mix * trends[period, :, target].to(mix)).sum(1)
    logits = logits.masked_fill(negative == target[:, None], -torch.inf)
    loss = torch.logaddexp(right, logits.logsumexp(1)) - right
    return (loss * weight).sum() / weight.sum()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware has matrix products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
