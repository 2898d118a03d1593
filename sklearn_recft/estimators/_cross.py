"""Deep & cross network over any columns: `IncrementalDCNRecommender`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._cross_base import CrossMixin, labels_within
from sklearn_recft.events import Interactions
from sklearn_recft.models import CrossSettings
from sklearn_recft.training import FineTuning


class IncrementalDCNRecommender(CrossMixin, RegressorMixin, BaseEstimator):
    """Deep & cross network: ratings, shares or counts from any columns, that keeps learning.

    The net reads ids, categories, lists and numbers of ``X``, and features of users and items.
    Cross layers learn products of them. So `fit` and `partial_fit` learn from plain counts of
    behavior as well as from a profile, features of items and the context of a request.

    Parameters
    ----------
    loss : {"squared_error", "log_loss", "poisson"}, default="squared_error"
        "squared_error" is for ratings, "log_loss" for shares from 0 to 1, "poisson" for counts.
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
    The input ``x_0`` of the net holds the embeddings of the ids and the categories, the mean
    embedding of each list, and the numbers. Two cross layers of rank 32 compute
    ``x_{l+1} = x_0 * (U_l V_l^T x_l + b_l) + x_l``, and dense layers compute ``h`` from ``x_0``.
    The score is ``w [x_2, h] + b + v o``. The offset o is the score of the factorization; a numeric
    column of ``X`` with the name ``offset`` replaces it. It holds the score of another model as of
    before each row: a log-odds, a rating, or the logarithm of a rate. As w starts at 0 and v at 1,
    training starts at the offset.

    Numbers are standardized by their mean and deviation so far, and clipped at 5 deviations.
    Missing numbers in ``users`` and ``items`` count as the mean; in ``X`` they are an error, except
    in queries. An unknown id or category has an embedding of its
    own, which `id_dropout` trains. New ids and categories start there. Rows of an embedding that no
    batch reads do not move.

    A vector is a cell with floats; all vectors of a column have one width. They are centered and
    scaled by one number, as in `fit`, and a linear layer maps them to ``4 * embedding_dim``
    numbers or fewer. A missing vector, or one with a missing number, is one that is learned.
    Vectors of users and items take 4 bytes a number for each id, those of ``X`` for each row of a
    call and each stored row.

    The factorization and the statistics of a row use rows with a strictly earlier timestamp.
    Without timestamps, the order of the rows is that of time. `partial_fit` is a warm start: it
    trains for one epoch on new and stored rows, at a third of the rate of `fit`. A fit of 50,000
    rows or more uses batches of 2,048, and multiplies the learning rate by 3 (by 1.5 for
    embeddings), unless ``net_params`` has a ``batch_size``.

    With ``drift="follow"``, a fast and a slow mean of the errors of new rows are kept. If the fast
    one is above 1.5 times the slow one, the new rows are taken to contradict the old ones. What was
    learned before such a change is lost.

    `recommend` runs the net for each pair of a query and an item. Pass ``candidates`` if the
    catalogue is large. It needs a fit on rows with ids. Features of items are those remembered; the
    context is that of the query, and the mean if it has none. Without ``y``, every row is a 1, and
    all predictions are nearly
    equal: add rows of negatives.

    References
    ----------
    Wang, R. et al. (2021). DCN V2: improved deep & cross network and practical lessons for
    web-scale learning to rank systems. WWW.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn_recft import IncrementalDCNRecommender
    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"user_id": rng.integers(0, 50, 2000),
    ...                   "item_id": rng.integers(0, 20, 2000),
    ...                   "clicks": rng.poisson(4, 2000), "buys": rng.poisson(1, 2000)})
    >>> y = np.log1p(X["clicks"]) + np.log1p(X["buys"])
    >>> model = IncrementalDCNRecommender(n_factors=0, random_state=0).fit(X[:1500], y[:1500])
    >>> model.partial_fit(X[1500:1900], y[1500:1900]).score(X[1900:], y[1900:]) > 0.9
    True
    """

    _FIXED = ("loss", *CrossMixin._FIXED)
    _TAGS = RecommenderTags(
        predicts="feedback",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's rates and factors",
        keeps="tables, features of ids, seen items, `replay_size` rows",
        splits_fit=True,
        learns="ratings, shares or counts from any columns: crosses of features, online rates and "
        "factors",
    )
    _parameter_constraints: ClassVar[dict] = {
        "loss": [StrOptions({"squared_error", "log_loss", "poisson"})],
        **CrossMixin._parameter_constraints,
    }

    def __init__(
        self,
        *,
        loss: str = "squared_error",
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
        self.loss = loss
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
    ) -> IncrementalDCNRecommender:
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp``, and any others: numbers,
            categories (strings), lists and vectors; by name in a frame. In an array by position:
            user, item, timestamp, numbers. With ``use_ids=False``, a frame may lack the ids.
        y : array-like of shape (n,), default=None
            Feedback. None counts every row as 1.
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
        users: Any = None,
        items: Any = None,
        batch_id: Any = None,
    ) -> IncrementalDCNRecommender:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing. Rows of
        a ``batch_id`` (a string or an integer, such as a file name) are learned once.

        Returns
        -------
        self : object
        """
        self._update(X, y, sample_weight, batch_id=batch_id, users=users, items=items)
        return self

    def predict(self, X: Any) -> Any:
        """Predict the feedback of each row, within the range of the feedback so far.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        return self._predict(X)

    # ------------------------------------------------------------------ private

    def _check(self, X: Any, y: Any, sample_weight: Any, **check: Any) -> Interactions:
        rows = super()._check(X, y, sample_weight, **check)
        labels_within(rows.feedback, self.loss)
        return rows

    def _settings(self) -> CrossSettings:
        return self._cross_settings(self.loss)
