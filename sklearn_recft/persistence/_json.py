"""JSON that says one thing: the same bytes for the same values, and no key twice."""

from __future__ import annotations

import json
from typing import Any


def write_json(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode("ascii")


def read_json(text: bytes) -> Any:
    """Read JSON.

    Raises
    ------
    ValueError
        If it is not valid, is nested too deeply, or has NaN or a key twice.
    """
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the JSON keys {twice[:3]} are there twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
