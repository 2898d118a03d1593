"""Deep & cross network for labels of two classes: `IncrementalDCNClassifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._cross_base import CrossMixin
from sklearn_recft.estimators._labels import BinaryLabelsMixin
from sklearn_recft.models import CrossSettings
from sklearn_recft.training import FineTuning


class IncrementalDCNClassifier(CrossMixin, BinaryLabelsMixin, ClassifierMixin, BaseEstimator):
    """Deep & cross network: the probability of a click, like or purchase from any columns.

    It is the model of `IncrementalDCNRecommender` with ``loss="log_loss"``, for labels of two
    classes.

    Parameters
    ----------
    user_features, item_features : list of str, default=None
        Features of users and of items, which are remembered by id: columns of ``X``, or of the
        tables ``users`` and ``items`` of `fit`. None reads all columns of these tables, and none
        of ``X``. Cells that are lists of floats are vectors, such as embeddings of images.
    categorical : list of str, default=None
        Columns of numbers that are categories, such as a zip code. Columns of strings are
        categories without being named.
    lists : list of str, default=None
        Columns of strings that are lists, separated by "|", such as "Comedy|Drama". Cells that are
        lists of strings need no name here. The first 32 members count.
    use_ids : bool, default=True
        Whether users and items have embeddings. False learns from the other columns alone, and a
        frame may lack ``user_id`` and ``item_id``.
    n_factors : int, default=16
        Length of the vectors of a factorization that is updated row by row, beside statistics of
        users and items. The net reads them as they were before each row, and the score of the
        factorization is added to that of the net. 0, or ``use_ids=False``, switches both off.
    embedding_dim : int, default=8
        Length of the embedding of an id or a category.
    hidden : sequence of int, default=(64, 32)
        Widths of the dense layers; () is the cross layers alone.
    id_dropout : float, default=0.1
        Share of ids and categories that training replaces by the unknown one, from 0 to 0.9.
    replay_size : int, default=20_000
        Number of past rows that are stored (a uniform sample). `partial_fit` rehearses one of them
        for each new row.
    drift : {"follow"} or None, default="follow"
        "follow": if the errors of new rows are far above those before, `partial_fit` drops the
        stored rows, and learns the new ones with a larger rate. None always rehearses.
    max_epochs : int, default=None
        Number of passes over the rows in `fit`. None is 2, up to 10 for fewer than 50,000 rows,
        and 1 from 500,000 on.
    module : torch.nn.Module or str, default=None
        A pretrained module, such as ``module_`` of another fit, or the path of its saved
        ``state_dict()``. Layers of the same shape start from its weights; embeddings do not.
    training : FineTuning, default=None
        How the net is trained. None is ``FineTuning()``, the defaults of this estimator.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 prints a line for each epoch.
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet`, such as ``batch_size`` or ``callbacks``.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    module_ : torch.nn.Module
        The net's module.
    net_ : skorch.NeuralNet
        The net around ``module_``.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    feature_columns_ : list of str
        Columns of queries that are read as categories, lists, or features of users and items.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The notes of `IncrementalDCNRecommender` hold here too.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft import IncrementalDCNClassifier
    >>> X = pd.DataFrame({"user_id": ["ann", "bob"] * 200, "item_id": ["tea", "rice"] * 200,
    ...                   "device": ["phone", "phone", "phone", "tablet"] * 100})
    >>> clicked = X["device"] == "tablet"
    >>> model = IncrementalDCNClassifier(use_ids=False, max_epochs=20, random_state=0)
    >>> model = model.fit(X, clicked)
    >>> rows = [["new", "tea", "tablet"], ["new", "tea", "phone"]]
    >>> model.predict(pd.DataFrame(rows, columns=X.columns)).tolist()
    [True, False]
    """

    _TAGS = RecommenderTags(
        predicts="probability",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's rates and factors",
        keeps="tables, features of ids, seen items, `replay_size` rows",
        splits_fit=True,
        learns="clicks or likes from any columns: crosses of features, online rates and factors",
    )

    def __init__(
        self,
        *,
        user_features: list[str] | None = None,
        item_features: list[str] | None = None,
        categorical: list[str] | None = None,
        lists: list[str] | None = None,
        use_ids: bool = True,
        n_factors: int = 16,
        embedding_dim: int = 8,
        hidden: Sequence[int] = (64, 32),
        id_dropout: float = 0.1,
        replay_size: int = 20_000,
        drift: str | None = "follow",
        max_epochs: int | None = None,
        module: Any = None,
        training: FineTuning | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.user_features = user_features
        self.item_features = item_features
        self.categorical = categorical
        self.lists = lists
        self.use_ids = use_ids
        self.n_factors = n_factors
        self.embedding_dim = embedding_dim
        self.hidden = hidden
        self.id_dropout = id_dropout
        self.replay_size = replay_size
        self.drift = drift
        self.max_epochs = max_epochs
        self.module = module
        self.training = training
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        users: Any = None,
        items: Any = None,
    ) -> IncrementalDCNClassifier:
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp``, and any others: numbers,
            categories (strings), lists and vectors; by name in a frame. In an array by position:
            user, item, timestamp, numbers. With ``use_ids=False``, a frame may lack the ids.
        y : array-like of shape (n,), default=None
            Labels of two classes. None means that every row is a positive.
        sample_weight : array-like of shape (n,), default=None
            Weights of rows.
        users, items : tables with a column ``user_id`` or ``item_id``, default=None
            Features, one row for each id. Items without events join the catalogue.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight, users=users, items=items)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        classes: Any = None,
        users: Any = None,
        items: Any = None,
        batch_id: Any = None,
    ) -> IncrementalDCNClassifier:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing. Rows of
        a ``batch_id`` (a string or an integer, such as a file name) are learned once.

        Parameters
        ----------
        classes : array-like of shape (2,), default=None
            Both labels, if the first call may not contain both.

        Returns
        -------
        self : object
        """
        self._update(
            X, y, sample_weight, batch_id=batch_id, classes=classes, users=users, items=items
        )
        return self

    def _settings(self) -> CrossSettings:
        return self._cross_settings("log_loss")
