"""JSON that says one thing: the same bytes for the same values, and no key twice."""

from __future__ import annotations

import json
import math
from typing import Any

_MAX_DEPTH = 100


def write_json(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode("ascii")


def check_plain(value: Any, name: str, depth: int = 0) -> None:
    """Check that JSON gives a value back as it is.

    Raises
    ------
    TypeError
        If a value is no string, bool, int, float, list, tuple or dict with keys of strings, or is
        nested too deeply.
    ValueError
        If a number is not finite.
    """
    if value is None or type(value) in (bool, int, str):
        return
    if depth > _MAX_DEPTH:
        raise TypeError(f"{name[:80]}...: a value in more than {_MAX_DEPTH} others, or in itself.")
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{name}: {value} cannot be saved; give a finite number or None.")
    elif type(value) is dict and all(type(key) is str for key in value):
        for key, inner in value.items():
            check_plain(inner, f"{name}[{key!r}]", depth + 1)
    elif type(value) in (list, tuple):
        for place, inner in enumerate(value):
            check_plain(inner, f"{name}[{place}]", depth + 1)
    else:
        raise TypeError(
            f"{name}: a {type(value).__name__} cannot be saved; give strings, numbers of Python, "
            "lists, and dicts whose keys are strings."
        )


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
