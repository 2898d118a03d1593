"""Collate windows of a log to padded batches of tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.training._batches import Columns


class SequenceWindows:
    """Collate windows of a log to sequences, padded at the end to the longest one.

    Parameters
    ----------
    log : dict of arrays of shape (n,)
        Events sorted by user and time: ``item``, ``feedback``, ``time``, ``weight`` as a target,
        ``context`` (n, c), and ``period`` if the module uses trends.
    """

    def __init__(self, log: Columns) -> None:
        self.log = {name: torch.from_numpy(column) for name, column in log.items()}

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn ``start`` and ``size`` (B,) into sequences (B, n); targets are the next events."""
        place = batch["start"][:, None] + torch.arange(int(batch["size"].max()))
        pad = place >= (batch["start"] + batch["size"])[:, None]
        place = torch.where(pad, place.masked_fill(pad, 0).amax(1, keepdim=True), place)
        log = self.log
        return {
            "item": log["item"][place],
            "feedback": log["feedback"][place],
            "time": log["time"][place],
            "query_times": log["time"][place + 1],
            "target": log["item"][place + 1],
            "weight": log["weight"][place + 1].masked_fill(pad, 0),
            **({"context": log["context"][place + 1]} if log["context"].shape[1] else {}),
            **({"period": log["period"][place + 1]} if "period" in log else {}),
        }


class LogWindows:
    """Collate the past events of rows from a log sorted by user and time.

    Parameters
    ----------
    items : ndarray of shape (n,), int64
        Item codes, with ``feedback`` (n,) float32 and ``times`` (n,) float64 in seconds.
    longest : int, default=None
        Fixed length of the past; None pads to the longest past of each batch.
    """

    def __init__(
        self, items: np.ndarray, feedback: np.ndarray, times: np.ndarray, longest: int | None = None
    ) -> None:
        self.items, self.feedback = torch.from_numpy(items), torch.from_numpy(feedback)
        self.times, self.longest = torch.from_numpy(times), longest

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn ``start``, ``stop`` (indices in the log) and ``time`` into past events (B, L).

        Events are sorted newest first, and padded at the end.
        """
        start, stop, now = (batch.pop(name) for name in ("start", "stop", "time"))
        longest = self.longest or max(int((stop - start).max()), 1)
        place = stop[:, None] - 1 - torch.arange(longest)
        pad = place < start[:, None]
        place = place.masked_fill_(pad, 0)
        age = ((now[:, None] - self.times[place]) / 86_400).float()
        return {
            **batch,
            "past": self.items[place].masked_fill(pad, -1),
            "feedback": self.feedback[place].masked_fill(pad, 0),
            "age": age.masked_fill(pad, 0),
        }
