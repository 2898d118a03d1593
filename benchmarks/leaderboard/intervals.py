"""How sure is the lead of our best model over the best peer? Intervals over the users of a cell.

In each table, the model of ours and the peer with the best NDCG@10 are fitted once more with their
chosen settings. A user's value is the mean over the seeds. The users are drawn with replacement,
and a drawn user counts with both values, so the interval is of the mean difference.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.events import Task
from benchmarks.leaderboard.grid import MODELS, OURS, Model
from benchmarks.leaderboard.table import decimals, joined, key, latest, mean_of

FILE = "intervals.json"
DRAWS, LEVEL = 5_000, 0.95
Values = Callable[[Model, Task, dict[str, Any]], np.ndarray | None]


def leaders(lines: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[dict, dict]]:
    """Return our best line and the best peer's of each table, by their NDCG@10 on the test part."""
    done = [line for line in latest(lines) if line["status"] == "done"]
    done.sort(key=lambda line: mean_of(line, "ndcg"))  # the best comes last and stays
    ours = {key(line)[:2]: line for line in done if line["library"] == OURS}
    peers = {key(line)[:2]: line for line in done if line["library"] != OURS}
    return {cell: (ours[cell], peers[cell]) for cell in ours if cell in peers}


def of_users(difference: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the mean difference (n_users,), users drawn anew."""
    rng, n = np.random.default_rng(seed), len(difference)
    means = [difference[rng.integers(n, size=n)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def compare(pair: tuple[dict, dict], task: Task, values_of: Values) -> dict[str, Any] | None:
    """Refit both of a pair of lines and compare them; None if one cannot be fitted.

    Parameters
    ----------
    pair : tuple of dict
        Our line and the peer's.
    task : Task
        The test part.
    values_of : callable
        Gives the NDCG@10 of each user, shape (n_users,), of a model with the setting of a line.
    """
    found: dict[str, Any] = dict(zip(("data", "protocol"), key(pair[0])[:2], strict=True))
    values = []
    for side, line in zip(("ours", "peer"), pair, strict=True):
        [model] = (m for m in MODELS if (m.library, m.name) == key(line)[2:])
        own = values_of(model, task, line)
        if own is None:
            return None
        values.append(own)
        found[side] = {
            "library": line["library"], "model": line["model"], "chosen": line["chosen"],
            "ndcg": round(float(own.mean()), 5),
            "ndcg_of_the_line": round(mean_of(line, "ndcg"), 5),
        }  # fmt: skip
    difference = values[0] - values[1]
    low, high = of_users(difference)
    return found | {
        "n_users": len(difference), "difference": round(float(difference.mean()), 5),
        "low": round(low, 5), "high": round(high, 5),
    }  # fmt: skip


def is_of(pair: tuple[dict, dict], one: dict[str, Any]) -> bool:
    """Whether a comparison is of these lines: same cell, models and settings."""
    sides = zip((one["ours"], one["peer"]), pair, strict=True)
    return cell(one) == key(pair[0])[:2] and all(
        (side["library"], side["model"], side["chosen"]) == (*key(line)[2:], line["chosen"])
        for side, line in sides
    )


def read(folder: Path) -> list[dict[str, Any]]:
    """Read the comparisons there are."""
    file = folder / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def write(folder: Path, one: dict[str, Any]) -> None:
    """Put a comparison in the place of the former one of its cell."""
    kept = [other for other in read(folder) if cell(other) != cell(one)]
    kept = sorted([*kept, one], key=cell)
    (folder / FILE).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def cell(one: dict[str, Any]) -> tuple[str, str]:
    return one["data"], one["protocol"]


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table of the comparisons; nothing if there are none."""
    if not found:
        return
    yield "## Our best and the best peer"
    yield ""
    yield f"Difference of NDCG@10 and its {LEVEL:.0%} interval, users drawn with replacement."
    yield ""
    yield joined(["", "ours", "NDCG@10", "best peer", "NDCG@10", "difference", "interval", "users"])
    yield "|" + "---|" * 8
    for one in found:
        ours, peer = one["ours"], one["peer"]
        yield joined(
            [
                f"{one['data']}, {one['protocol']}", ours["model"], decimals(ours["ndcg"]),
                f"{peer['library']} {peer['model']}", decimals(peer["ndcg"]),
                decimals(one["difference"]), f"{decimals(one['low'])} to {decimals(one['high'])}",
                f"{one['n_users']:,}",
            ]
        )  # fmt: skip
