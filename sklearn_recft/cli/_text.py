"""Reports as text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

_WIDTH = 80
_METRICS = {
    "rmse": "RMSE of predicted ratings (lower is better)",
    "auc": "AUC of predicted clicks (0.5 is chance, 1 is best)",
}


def as_text(report: dict[str, Any]) -> str:
    """Return a report as paragraphs."""
    parts = []
    if "models" in report:
        parts += [_overview(report), *_choices(report), _table(report), _fill(_legend(report))]
        parts.append("\n".join(_fill(text, "  ") for text in report["conclusions"]))
    if report.get("new_items"):
        parts.append(_new_items(report))
    if "recommendations" in report:
        parts.append(_list(report))
    if "saved" in report:
        parts.append(_saved(report["saved"]))
    if "text" in report:
        parts.append(report["text"])
    if report.get("plot"):
        parts.append(f"Figure, scores of each {report['unit']}: {report['plot']}")
    if "seconds" in report:
        parts.append(f"{report['seconds']:.0f} s in all.")
    return "\n\n".join(parts)


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _overview(report: dict[str, Any]) -> str:
    start, split, end = report["dates"]
    when = f" from {start} to {end}" if start else ""
    until = f" (until {split})" if split else ""
    unit = report["unit"]
    lines = [
        f"{report['log']}: {report['n_events']:,} events of {report['n_users']:,} "
        f"{report['called']}s with {report['n_items']:,} items{when}.",
        f"The first {report['n_learned_first']:,} events{until} are fitted. Then, in each of "
        f"{report['n_steps']} {unit}s, every model first predicts and is scored; the learning one "
        f"is then passed the {unit}'s events (partial_fit), the frozen one is not.",
    ]
    if report["metric"] == "ndcg@10":
        repeats = f"{report['repeat_share']:.0%} of the events repeat an earlier one"
        may = "may" if report["lists_repeat"] else "do not"
        lines.append(
            "Score: NDCG@10 (0 to 1, higher is better) of a top 10 of all items for every "
            f"{report['called']} active in the {unit}. {repeats}; lists {may} hold items that were "
            "taken before" + ("." if report["lists_repeat"] else ", and only new items count.")
        )
    else:
        words = {
            "rmse": "RMSE of predicted ratings (lower is better)",
            "auc": "AUC (0.5 is chance, 1 is best)",
        }
        lines.append(f"Score: {words[report['metric']]}.")
    return "\n".join(_fill(line) for line in lines)


def _choices(report: dict[str, Any]) -> list[str]:
    """Say which models are compared, and why others are not; those of one reason together."""
    if not report.get("show_candidates"):
        return []
    chosen = [c for c in report["candidates"] if c["chosen"]]
    lines = ["Compared:", *(_hanging(f"{c['name']}: {c['reason']}") for c in chosen)]
    left_out: dict[str, list[str]] = {}
    for candidate in report["candidates"]:
        if not candidate["chosen"]:
            left_out.setdefault(candidate["reason"], []).append(candidate["name"])
    if left_out:
        lines.append("Left out:")
    lines += [_hanging(f"{'; '.join(names)}: {reason}") for reason, names in left_out.items()]
    return ["\n".join(lines)]


def _hanging(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _table(report: dict[str, Any]) -> str:
    heads = [
        "model",
        "frozen",
        "learning",
        "refit",
        "gain",
        f"last {report['n_last']} {report['unit']}s",
        "s to learn",
    ]
    rows = [
        [
            row["model"],
            _number(row["frozen"]),
            _number(row["learning"]),
            _change(row["refit_difference"]),
            _change(row["gain"], digits=0),
            f"{_number(row['last_frozen'])} -> {_number(row['last_learning'])}",
            f"{row['learn_seconds']:.1f}",
        ]
        for row in report["models"]
    ]
    return _grid(heads, rows)


def _legend(report: dict[str, Any]) -> str:
    unit, n = report["unit"], report["n_steps"]
    every = len(report["refitted_steps"]) == n
    where = f"before each {unit}" if every else f"before {unit} {n} only, compared in that {unit}"
    return (
        "gain: learning against frozen; above 0 is better. refit: a new fit on all earlier events "
        f"{where}, against learning. last {report['n_last']} {unit}s: frozen -> learning."
    )


def _new_items(report: dict[str, Any]) -> str:
    rows = [
        [row["model"], _number(row["frozen"]), _number(row["learning"])]
        for row in report["new_items"]
    ]
    about = (
        f"Items new to the {report['called']} (exclude_seen=True), last {report['n_last']} "
        f"{report['unit']}s: NDCG@10 of lists without seen items, scored on what is taken for the "
        "first time. Habits cannot help here."
    )
    return _fill(about) + "\n\n" + _grid(["model", "frozen", "learning"], rows)


def _grid(heads: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for first, *others in [heads, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _change(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:+.{digits}%}"


def _list(report: dict[str, Any]) -> str:
    found = report["recommendations"]
    new = "" if found["known"] else " (unknown, so anybody's)"
    by = f", by {report['best']}" if "best" in report else ""
    after = f" after {found['date']}" if found["date"] else ""
    lines = [f"Top {len(found['items'])} for {found['called']} {found['user']}{new}{by}{after}:"]
    names = [str(item["title"] or item["item_id"]) for item in found["items"]]
    reasons = [item["reason"] for item in found["items"]]
    room = min(max(map(len, names), default=0), _WIDTH - 7 - max(map(len, reasons), default=0))
    for rank, (name, reason) in enumerate(zip(names, reasons, strict=True), 1):
        name = name if len(name) <= room else f"{name[: room - 3]}..."
        lines.append(f"{rank:>3}. {name:<{room}}  {reason}")
    return "\n".join(lines)


def _saved(found: dict[str, Any]) -> str:
    size = sum(found["sizes"].values())
    n_arrays = len(found["arrays"])
    sealed = ", encrypted" if found["encrypted"] else ""
    lines = [
        f"{found['folder']}: {found['kind']} of sklearn-recft {found['version']}, format "
        f"{found['format']}{sealed}, {size:,} bytes, {n_arrays} arrays.",
        f"digest: {found['digest']}",
        *([] if found["seq"] is None else [f"seq: {found['seq']}"]),
        *(f"{name}: {value}" for name, value in sorted(found["metadata"].items())),
    ]
    return "\n".join(lines)
