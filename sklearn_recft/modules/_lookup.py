"""Embeddings of the fields of rows as one operation, compiled or of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sklearn_recft import kernels


class LookUp(torch.autograd.Function):
    """Embeddings (B, F, d) of fields, by compiled code; gradients of tables are sparse.

    It equals `look_up_in_torch`, and takes a tenth of its time. The cost of a gradient grows with
    the length of the tables by four bytes a row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        values: Tensor,
        unknown: Tensor,
        codes: tuple[Tensor, Tensor, np.ndarray],
    ) -> Tensor:
        """Look up ``codes``: codes (B, K), those kept (B, K), and the layout of `look_up`."""
        own, kept, layout = codes[0].numpy(), codes[1].numpy(), codes[2]
        ctx.codes, ctx.n_kinds = (own, kept, layout), len(unknown)
        ctx.n_rows = np.array([len(users), len(items), len(values)])
        tables = tuple(table.detach().numpy() for table in (users, items, values))
        return torch.from_numpy(
            kernels.look_up(tables, unknown.detach().numpy(), own, kept, layout)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tables and of the unknown embeddings."""
        gradient = gradients[0].contiguous().numpy()
        rows, sums, to_unknown = kernels.look_up_gradients(
            gradient, ctx.n_rows, ctx.n_kinds, *ctx.codes
        )
        ends = np.cumsum(ctx.n_rows)
        cuts = np.searchsorted(rows, ends)
        found: list[Tensor | None] = []
        for n, end, start, stop in zip(ctx.n_rows, ends, [0, *cuts[:-1]], cuts, strict=True):
            own = torch.from_numpy(rows[None, start:stop] - (end - n))
            shape = (int(n), sums.shape[1])
            found.append(
                torch.sparse_coo_tensor(
                    own, torch.from_numpy(sums[start:stop]), shape,
                    is_coalesced=True, check_invariants=False,
                )
            )  # fmt: skip
        return (*found, torch.from_numpy(to_unknown), None)


def look_up_in_torch(
    tables: tuple[Tensor, ...], unknown: Tensor, codes: Tensor, kept: Tensor, layout: np.ndarray
) -> Tensor:
    """Return embeddings (B, F, d) of fields, on any device; see `kernels.look_up`."""
    found = []
    for table, kind, start, width in layout.tolist():
        own, rows = codes[:, start : start + width], tables[table]
        known = kept[:, start : start + width] & (own >= 0) & (own < len(rows))
        each = unknown[kind].expand(*own.shape, -1)  # (B, L, d)
        if len(rows):
            each = torch.where(
                known[..., None], functional.embedding(torch.where(known, own, 0), rows), each
            )
        if width > 1:
            there = (own >= 0).float()[..., None]  # (B, L, 1)
            count = there.sum(1)  # (B, 1)
            mean = (each * there).sum(1) / count.clamp(min=1)  # (B, d)
            found.append(torch.where(count > 0, mean, unknown[kind]))
        else:
            found.append(each[:, 0])
    return torch.stack(found, 1)
