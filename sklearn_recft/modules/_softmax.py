"""The loss of the next item: a softmax over the catalogue, whole or of a sample."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_ROWS_AT_ONCE = 1024  # whose logits over the whole catalogue are held at a time


def softmax_loss(states: Tensor, table: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of ``-log softmax(states @ table.T)[target]`` over the whole catalogue.

    Parameters
    ----------
    states : Tensor of shape (M, d)
    table : Tensor of shape (V, d)
        Vectors of the items.
    target : Tensor of shape (M,), int64
    weight : Tensor of shape (M,)

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
    return _FullSoftmax.apply(states, table, target, weight)


class _FullSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over the rows."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Add up the loss, and keep its gradients."""
        kind = torch.bfloat16 if has_fast_bfloat16(states.device) else torch.float32
        with torch.autocast(states.device.type, enabled=False):
            x, items = states.to(kind), table.to(kind)
            turned = items.T.contiguous()
            share = (weight / weight.sum()).float()
            grad_x, grad_items = torch.empty_like(x), torch.zeros_like(table, dtype=torch.float32)
            loss = torch.zeros((), device=x.device)
            for rows in torch.arange(len(x), device=x.device).split(_ROWS_AT_ONCE):
                some, aim = x[rows], target[rows]
                each = torch.arange(len(rows), device=x.device), aim
                said = torch.softmax(some @ turned, 1)
                right = said[each].float()
                loss -= (right.clamp(min=1e-30).log() * share[rows]).sum()
                said[each] -= 1
                scale = share[rows, None].to(kind)
                torch.mm(said, items, out=grad_x[rows[0] : rows[-1] + 1])
                grad_items += said.T @ (some * scale)
            grad_x = grad_x.float() * share[:, None]
        ctx.save_for_backward(grad_x.to(states.dtype), grad_items.to(table.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Hand on what `forward` found."""
        grad_x, grad_items = ctx.saved_tensors
        return outer[0] * grad_x, outer[0] * grad_items, None, None


def sampled_softmax_loss(
    states: Tensor, table: Tensor, target: Tensor, weight: Tensor, negative: Tensor, log_q: Tensor
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
    """
    logits = states @ table[negative].T - (log_q + math.log(len(negative)))
    logits = logits.masked_fill(negative == target[:, None], -torch.inf)
    right = (states * table[target]).sum(1)
    loss = torch.logaddexp(right, logits.logsumexp(1)) - right
    return (loss * weight).sum() / weight.sum()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices of bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
