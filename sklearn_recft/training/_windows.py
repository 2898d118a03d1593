"""Sequences of a log as batches of tensors, handed on by where they begin."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.training._batches import Columns


class SequenceWindows:
    """Hands each batch its windows of a log, padded behind to the longest of them.

    Parameters
    ----------
    log : dict of arrays of shape (n,)
        Events sorted by user and time: ``item``, ``feedback``, ``time``, ``weight`` of each as
        what is to be predicted, ``context`` (n, c), and ``moment`` if trends are told.
    """

    def __init__(self, log: Columns) -> None:
        self.log = {name: torch.from_numpy(column) for name, column in log.items()}

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn columns ``start`` and ``size`` into sequences; the event behind each is a target."""
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
    """Hands each batch its rows' past, read off a log sorted by user and time.

    Parameters
    ----------
    items : ndarray of shape (n,), int64
        Codes; ``feedback`` (n,) float32 and ``times`` (n,) float64, seconds, beside them.
    longest : int, default=None
        Length of every past; None pads to the longest of each batch.
    """

    def __init__(
        self, items: np.ndarray, feedback: np.ndarray, times: np.ndarray, longest: int | None = None
    ) -> None:
        self.items, self.feedback = torch.from_numpy(items), torch.from_numpy(feedback)
        self.times, self.longest = torch.from_numpy(times), longest

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn columns ``start``, ``stop`` (places in the log) and ``time`` into the past.

        The past is padded behind, newest first.
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
