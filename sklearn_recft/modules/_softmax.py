"""The loss of the next item: a softmax over the catalogue, whole or of a sample."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024  # whose logits over the whole catalogue are held at a time

Trending = tuple[Tensor, Tensor, Tensor]


def softmax_loss(
    states: Tensor, table: Tensor, target: Tensor, weight: Tensor, trending: Trending | None = None
) -> Tensor:
    """Weighted mean of ``-log softmax(states @ table.T)[target]`` over the whole catalogue.

    Parameters
    ----------
    states : Tensor of shape (M, d)
    table : Tensor of shape (V, d)
        Vectors of the items.
    target : Tensor of shape (M,), int64
    weight : Tensor of shape (M,)
    trending : tuple of ``mix, moment, trends``, or None
        Logits of row r are more by ``mix[r] @ trends[moment[r]]``: Tensors of shape (M, k), of
        (M,) of int64, and (T, k, V), which has no gradient.

    Returns
    -------
    loss : Tensor of shape ()

    Notes
    -----
    Gradients are taken on the way, a run of rows at a time, so that the M x V logits never
    exist at once. Where the processor multiplies bfloat16 by itself, products are of that
    type, several times as fast, and sums of float32; the loss is then exact to 2 %, and its
    gradient within the noise of a batch.
    """
    if trending is None:
        nothing = states.new_zeros(len(states), 0)
        return _FullSoftmax.apply(states, table, target, weight, nothing, target, nothing[None])
    mix, moment, trends = trending
    order = moment.argsort(stable=True)  # rows of one moment are one product
    rows = states[order], table, target[order], weight[order]
    return _FullSoftmax.apply(*rows, mix[order], moment[order], trends)


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over the rows, which are in the order of moments."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        table: Tensor,
        target: Tensor,
        weight: Tensor,
        mix: Tensor,
        moment: Tensor,
        trends: Tensor,
    ) -> Tensor:
        """Add up the loss, and keep its gradients."""
        # By a call, not a `with` of ours, which an interrupt could leave without its end.
        exactly = torch.autocast(states.device.type, enabled=False)(_loss_and_gradients)
        loss, grad_x, grad_items, grad_mix = exactly(
            states, table, target, weight, mix, moment, trends
        )
        ctx.save_for_backward(
            grad_x.to(states.dtype), grad_items.to(table.dtype), grad_mix.to(mix.dtype)
        )
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Hand on what `forward` found."""
        grad_x, grad_items, grad_mix = (outer[0] * found for found in ctx.saved_tensors)
        return grad_x, grad_items, None, None, grad_mix, None, None


def _loss_and_gradients(
    states: Tensor,
    table: Tensor,
    target: Tensor,
    weight: Tensor,
    mix: Tensor,
    moment: Tensor,
    trends: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the loss (), and its gradients by ``states``, ``table`` and ``mix``."""
    kind = torch.bfloat16 if has_fast_bfloat16(states.device) else torch.float32
    x, items = states.to(kind), table.to(kind)
    turned = items.T.contiguous()
    share = (weight / weight.sum()).float()
    grad_x, grad_items = torch.empty_like(x), torch.zeros_like(table, dtype=torch.float32)
    mixed = mix.to(kind)
    grad_mix = torch.empty_like(mixed)
    loss = torch.zeros((), device=x.device, dtype=torch.float32)
    for rows in torch.arange(len(x), device=x.device).split(_ROWS_AT_ONCE):
        some, aim = x[rows], target[rows]
        each = torch.arange(len(rows), device=x.device), aim
        said, first = some @ turned, int(rows[0])
        runs = _runs(moment[rows]) if mix.shape[1] else []
        for which, run in runs:
            said[run].addmm_(mixed[rows][run], trends[which].to(kind))
        said = torch.softmax(said, 1)
        right = said[each].float()
        loss -= (right.clamp(min=1e-30).log() * share[rows]).sum()
        said[each] -= 1
        scale = share[rows, None].to(kind)
        torch.mm(said, items, out=grad_x[first : first + len(rows)])
        for which, run in runs:
            its = slice(first + run.start, first + run.stop)
            torch.mm(said[run], trends[which].to(kind).T, out=grad_mix[its])
        grad_items += said.T @ (some * scale)
    grad_x, grad_mix = (g.float() * share[:, None] for g in (grad_x, grad_mix))
    return loss, grad_x, grad_items, grad_mix


def _runs(moment: Tensor) -> list[tuple[int, slice]]:
    """Find the runs of one moment in ascending ``moment`` (n,)."""
    which, length = torch.unique_consecutive(moment, return_counts=True)
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
    """`softmax_loss` against a sample of the catalogue that all rows share.

    ``-log(e^s / (e^s + sum_j e^(s_j - log(K q_j))))`` with the target's logit s and those of
    the K sampled items that are not the target; each stands for as many as it was unlikely to
    be drawn, so that the sum means that over the catalogue.

    Parameters
    ----------
    states, table, target, weight : as for `softmax_loss`
    negative : Tensor of shape (K,), int64
    log_q : Tensor of shape (K,)
        Log-probability with which each was drawn.
    trending : tuple or None
    """
    if trending is not None:
        mix, moment, trends = trending
        order = moment.argsort(stable=True)
        states, target, weight, mix, moment = (
            column[order] for column in (states, target, weight, mix, moment)
        )
    logits = states @ table[negative].T - (log_q + math.log(len(negative)))
    right = (states * table[target]).sum(1)
    if trending is not None:
        told = [mix[run] @ trends[which][:, negative].to(mix) for which, run in _runs(moment)]
        logits = logits + torch.cat(told)
        right = right + (mix * trends[moment, :, target].to(mix)).sum(1)
    logits = logits.masked_fill(negative == target[:, None], -torch.inf)
    loss = torch.logaddexp(right, logits.logsumexp(1)) - right
    return (loss * weight).sum() / weight.sum()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices of bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
