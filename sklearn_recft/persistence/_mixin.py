"""The method `save` of estimators."""

from __future__ import annotations

import os
from typing import Any

from sklearn_recft.lazy import lazy_names

_persistence = lazy_names("sklearn_recft.persistence", {"save": "_folder"})


class SaveMixin:
    """Mixin that adds `save`."""

    def save(self, path: str | os.PathLike[str], **options: Any) -> str:
        """Save the estimator to a folder without pickle; `sklearn_recft.load` reads it.

        Parameters
        ----------
        path : str or path-like
            A new folder, or one that was saved to before.
        **options : dict
            ``seq``, ``metadata``, ``include_backbone`` and ``key`` of `sklearn_recft.save`.

        Returns
        -------
        digest : str
            SHA-256 of the model.
        """
        digest: str = _persistence("save")(self, path, **options)
        return digest
