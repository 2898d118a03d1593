"""The method `save` of estimators."""

from __future__ import annotations

import os
from typing import Any

from sklearn_recft.lazy import lazy_names

_persistence = lazy_names("sklearn_recft.persistence", {"save": "_folder"})


class SaveMixin:
    """Mixin that adds `save`, and copies and pickles beside other threads."""

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

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Return what a copy or a pickle is made of: the attributes of one moment.

        Another thread may add an attribute meanwhile, as `forget` does.
        """
        found = super().__reduce_ex__(protocol)
        if isinstance(found, str) or len(found) < 3 or not isinstance(found[2], dict):
            return found
        made, arguments, attributes, *others = found
        return made, arguments, dict(attributes), *others
