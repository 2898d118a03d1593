"""Print a figure as one line of JSON."""

import json

import numpy as np


def row(task: str, data: str, model: str, **figures) -> None:
    """Print a line."""
    rounded = {name: _rounded(value) for name, value in figures.items()}
    print(json.dumps({"task": task, "data": data, "model": model} | rounded), flush=True)


def _rounded(value):
    if isinstance(value, list | tuple | np.ndarray):
        return [_rounded(part) for part in value]
    if not isinstance(value, float | np.floating):
        return value
    return round(float(value), 4) if np.isfinite(value) else None  # JSON has no infinity
