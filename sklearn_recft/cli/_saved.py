"""Saved models: written after one fit, and asked without another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_recft import compression, persistence
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.cli._household import finite, plain
from sklearn_recft.cli._log import Log, spelled_id
from sklearn_recft.preprocessing import SecretKey
from sklearn_recft.vocabulary import Vocabulary

# Numbers of compressed tables.
TABLES = ("int8", "float16", "bfloat16")


def key_of(file: str | None) -> SecretKey | None:
    """Return the key in a file."""
    return None if file is None else SecretKey.from_file(file)


def save_fitted(
    model: RecommenderMixin,
    log: Log,
    folder: str,
    key: SecretKey | None,
    feedback: str | None = None,
) -> dict[str, Any]:
    """Save a model that was fitted to a log; its rows are numbered from 1."""
    about = {"log": log.name, "repeat": bool(log.repeat), "called": log.user_word}
    if feedback is not None:
        about["feedback"] = feedback
    persistence.save(model, folder, seq=len(log.X), metadata=about, key=key)
    return described(folder, key)


def save_compressed(folder: str, to: str, tables: str, key: SecretKey | None) -> dict[str, Any]:
    """Save a compressed copy of a saved model, which serves but does not learn."""
    folder = of_store(folder)
    if Path(to).resolve() == Path(folder).resolve():
        raise ValueError(f"{to} is the model itself; give another folder for the smaller copy.")
    about, model = persistence.inspect(folder, key=key), persistence.load(folder, key=key)
    if not isinstance(model, RecommenderMixin):
        raise ValueError(f"{folder} holds a {type(model).__name__}, which cannot be compressed.")
    small = compression.compress(model, tables=tables)
    persistence.save(small, to, seq=about.seq, metadata=about.metadata, key=key)
    return described(to, key)


def described(folder: str, key: SecretKey | None) -> dict[str, Any]:
    """Describe a saved model, or the current one of a store."""
    folder = of_store(folder)
    found = persistence.inspect(folder, key=key)
    names = ("kind", "digest", "seq", "metadata", "version", "format", "encrypted", "sizes")
    return {
        "folder": folder,
        **{name: found[name] for name in names},
        "arrays": {n: {"type": t, "shape": list(s)} for n, (t, s) in found.arrays.items()},
    }


def of_store(folder: str) -> str:
    """Return the folder of the current model of a `ModelStore`; another folder stays as it is."""
    if not (Path(folder) / "CURRENT").is_file():
        return folder
    return str(Path(folder) / "models" / persistence.ModelStore(folder).current())


def saved_recommendations(
    folder: str, text: str, n: int, repeat: bool | None, key: SecretKey | None
) -> dict[str, Any]:
    """Ask a saved model for up to `n` items for the user whose id is spelled `text`."""
    folder = of_store(folder)
    model = persistence.load(folder, key=key)
    if not hasattr(model, "recommend"):
        raise ValueError(f"{folder} holds a {type(model).__name__}, which recommends nothing.")
    found = persistence.inspect(folder, key=key).metadata
    about = found if isinstance(found, dict) else {}
    repeat = bool(about.get("repeat")) if repeat is None else repeat
    user = spelled_id(text, model.user_ids_.tolist(), folder)
    one = np.empty(1, object)
    one[0] = user
    items, scores = model.recommend(
        one, n_recommendations=n, exclude_seen=not repeat, on_missing="pad"
    )
    listed = [
        {
            "item_id": plain(item),
            "title": None,
            "score": finite(score),
            "reason": f"score {score:.4g}",
        }
        for item, score in zip(items[0], scores[0], strict=True)
        if math.isfinite(score)
    ]
    known = Vocabulary(model.user_ids_.tolist()).encode([user])[0] >= 0
    return {
        "user": plain(user),
        "known": bool(known),
        "called": str(about.get("called", "user")),
        "date": None,
        "items": listed,
    }
