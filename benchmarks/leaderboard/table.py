"""Markdown tables from the lines of the leaderboard, the best on top."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

METRICS = {"ndcg": "NDCG@10", "recall": "Recall@10", "hit_rate": "HR@10", "coverage": "coverage@10"}


def latest(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the last line of every cell."""
    return list({key(line): line for line in lines}.values())


def key(line: dict[str, Any]) -> tuple[str, str, str, str]:
    """Name the cell a line is of."""
    return line["data"], line["protocol"], line["library"], line["model"]


HEAD = """\
# Leaderboard tables

Written by `python benchmarks/leaderboard/bench_leaderboard.py --table`. Do not edit by hand.
`README.md` in this folder has the protocol and the meaning of `*` and `†`.
"""


def page(lines: list[dict[str, Any]], first: Iterable[str] = ()) -> str:
    """Return the whole page: a heading, the lines of a table that comes first, every table."""
    top = "\n".join(first)
    return "\n".join([HEAD, *(f"{table}\n" for table in [top, *tables(lines)] if table)])


def tables(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one Markdown table for each data set and protocol."""
    lines = latest(lines)
    for data, protocol in dict.fromkeys(key(line)[:2] for line in lines):
        here = [line for line in lines if key(line)[:2] == (data, protocol)]
        done = [line for line in here if line["status"] == "done"]
        done.sort(key=lambda line: -mean_of(line, "ndcg"))
        one = (done or here)[0]
        yield "\n".join(
            [
                f"## {data}, {protocol}",
                "",
                f"{one['n_train']:,} training events, {one['n_items']:,} items, "
                f"{one['n_queries']:,} test users, threads: {one['threads']}.",
                "",
                joined(["", "chosen", *METRICS.values(), "fit, s", "lists, s", "peak, MiB"]),
                "|" + "---|" * (len(METRICS) + 5),
                *(_row(line) for line in done),
                *(_lost(line) for line in here if line["status"] != "done"),
            ]
        )


def mean_of(line: dict[str, Any], name: str) -> float:
    """Return the mean of a figure over the runs on the test part."""
    return float(np.mean([run[name] for run in line["test"]]))


def _name(line: dict[str, Any]) -> str:
    version = "" if line["version"] == "source tree" else f" {line['version']}"
    return f"{line['library']}{version} {line['model']}"


def _row(line: dict[str, Any]) -> str:
    marks = "*" * bool(line["at_edge"]) + "†" * bool(line["n_untried"])
    chosen = ", ".join(f"{name} {value}" for name, value in line["chosen"].items())
    cells = [_name(line), (chosen or "no choice") + marks]
    for name in METRICS:
        cell = decimals(mean_of(line, name))
        if name == "ndcg" and len(line["test"]) > 1:
            cell += f" (spread {decimals(np.ptp([run[name] for run in line['test']]))})"
        cells.append(cell)
    for name in ("fit_s", "recommend_s"):
        cells.append(f"{np.median([run[name] for run in line['test']]):.2f}")
    return joined([*cells, f"{max(run['peak_mib'] for run in line['test']):.0f}"])


def _lost(line: dict[str, Any]) -> str:
    return joined([_name(line), line["error"].replace("|", "/"), *["-"] * (len(METRICS) + 3)])


def decimals(value: float) -> str:
    """Write a share with four decimals and without the zero before them."""
    return f"{value:.4f}".replace("-0.", "-.").removeprefix("0")


def joined(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
