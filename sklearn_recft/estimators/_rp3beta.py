"""Random walks over users, items and a knowledge graph (RP3beta)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags
from sklearn_recft.edges import check_edges
from sklearn_recft.estimators._verbs import ExplainMixin, HistoryMixin, SimilarItemsMixin
from sklearn_recft.events import Interactions
from sklearn_recft.models import RP3BetaModel, RP3BetaSettings
from sklearn_recft.vocabulary import warn_of_other_types


class RP3BetaRecommender(
    ExplainMixin,
    HistoryMixin,
    SimilarItemsMixin,
    ObserveMixin,
    RecommenderMixin,
    RegressorMixin,
    BaseEstimator,
):
    """Recommend items that random walks from the user's items reach (RP3beta).

    Let ``x_ui`` be the sum of the feedback of user u on item i; without feedback every event counts
    1, and negative feedback counts 0. Let ``z_ui`` be the same sum with events weighted by
    ``f + (1 - f) 2^(-age / half_life)``, where f is ``decay_floor``. A walk goes from item i to one
    of its users, and on to one of that user's items:

    ``w_ij = sum_u (x_ui / d_i)^alpha (z_uj / n_u)^alpha / d_j^beta``

    with ``d_i = sum_u x_ui`` and ``n_u = sum_j x_uj``. So walks end at old events less often. Each
    item keeps its ``n_neighbors`` largest weights, which are scaled to sum to 1. Of the weights
    that end at an item, the ``n_neighbors`` largest are kept as well. `recommend` ranks by
    ``sum_j z_uj w_ji`` over the user's items j, where z also decays by ``history_half_life``.

    With ``edges``, walks also go from an item to its entities, such as its genres or its director,
    and on to their items. For each relation r,

    ``w^r_ij = sum_e (1 / n_i)^alpha (1 / n_e)^alpha``

    over the entities e of r, where item i has n_i of them, and e has n_e items. These weights are
    pruned and scaled in the same way, and ``edge_weight c_r w^r_ij`` is added to w_ij. The c_r are
    learned: least squares predict the walks over one half of the users from the walks over the
    other half and over each relation.

    Parameters
    ----------
    alpha : float, default=1.0
        Power of the probabilities. Values below 1 make rare and frequent steps more alike.
    beta : float, default=0.1
        Penalty of popular items; 0 is the model P3alpha.
    n_neighbors : int, default=1000
        Number of weights kept per item.
    zero_diagonal : bool, default=True
        Whether walks that return to their item are left out. Set False for repeat purchases.
    half_life : float, default=None
        Half-life of events in days. None disables the decay.
    history_half_life : float, default=None
        Number of later events of the same user after which an event has half the weight in that
        user's scores. Small values favour the next item; None disables this decay.
    decay_floor : float, default=0.0
        Weight from 0 to 1 that events keep, however old they are; ``half_life`` decays the rest.
        Values of 0.03 to 0.1 with a short half-life suit sparse logs and repeat purchases. Without
        ``half_life`` it has no effect.
    edges : table of shape (n, 3), default=None
        A knowledge graph: a frame with the columns ``item_id``, ``relation`` and ``entity``, or an
        array of these columns. Its items join the catalogue. It may be replaced by `set_params`,
        and the next `partial_fit` uses the new one.
    edge_weight : float, default=1.0
        Factor of the learned weights of relations. Larger values favour new items.
    n_jobs : int, default=None
        Number of threads; None is 1, -1 all cores. The result does not depend on it.

    Attributes
    ----------
    similarity_ : csr_array of shape (n_items_, n_items_), float32
        Weights of the walks that start at each item, in catalogue order.
    relation_weights_ : dict of str to float
        ``edge_weight c_r`` of each relation; walks over users have weight 1.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    `partial_fit` is exact: the result equals `fit` on all rows. With ``history_half_life``, the
    events of a user must arrive in time order. It adds to the sums and computes all walks again,
    which costs as much as `fit`. The model keeps the weights, and 20 bytes per distinct
    (user, item) pair, 20 more with ``half_life`` and 20 more with ``history_half_life``. A
    ``decay_floor`` adds 20, and 20 more with ``history_half_life``. It needs no items × items
    matrix.

    `predict` returns the scores of `recommend`: they order items, and their scale means nothing.
    Unknown users get item popularity. Items that no walk reaches are ranked last, by popularity.

    With ``edges``, `explain` also returns ``path``, an array of the shape of ``item_ids``. It holds
    the path from each past item that is most of its contribution: "same users", or the relation
    and the entity of the most probable walk, such as "same director: Ozu".

    References
    ----------
    Christoffel, F., Paudel, B., Newell, C. & Bernstein, A. (2015). Blockbusters and wallflowers:
    accurate, diverse, and scalable recommendations with random walks. RecSys. Pruning and scaling
    are those of Ferrari Dacrema, M., Cremonesi, P. & Jannach, D. (2019). Are we really making much
    progress? RecSys.

    Examples
    --------
    >>> from sklearn_recft import RP3BetaRecommender
    >>> X = [["ann", "Ran"], ["ann", "Ikiru"], ["bob", "Ran"], ["bob", "Tampopo"], ["cem", "Ran"]]
    >>> edges = [["Ran", "director", "Kurosawa"], ["Kagemusha", "director", "Kurosawa"]]
    >>> model = RP3BetaRecommender(edges=edges).fit(X)
    >>> model.recommend(["cem"], n_recommendations=3)[0].tolist()
    [['Ikiru', 'Tampopo', 'Kagemusha']]
    >>> model.explain([["cem", "Kagemusha"], ["cem", "Ikiru"]]).path.tolist()
    [['same director: Kurosawa'], ['same users']]
    """

    _FIXED = ("half_life", "history_half_life", "decay_floor")
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="exact",
        reads=("time",),
        forget="exact",
        merges="any parts",
        keeps="sums of distinct pairs, weights of walks",
        learns="items that random walks reach, also over a knowledge graph",
    )
    _parameter_constraints: ClassVar[dict] = {
        "alpha": [Interval(Real, 0, 100, closed="right")],
        "beta": [Interval(Real, 0, 10, closed="both")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "zero_diagonal": ["boolean"],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "decay_floor": [Interval(Real, 0, 1, closed="both")],
        "edges": [object],  # `check_edges` checks the table
        "edge_weight": [Interval(Real, 0, 1e6, closed="both")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.1,
        n_neighbors: int = 1000,
        zero_diagonal: bool = True,
        half_life: float | None = None,
        history_half_life: float | None = None,
        decay_floor: float = 0.0,
        edges: Any = None,
        edge_weight: float = 1.0,
        n_jobs: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.n_neighbors = n_neighbors
        self.zero_diagonal = zero_diagonal
        self.half_life = half_life
        self.history_half_life = history_half_life
        self.decay_floor = decay_floor
        self.edges = edges
        self.edge_weight = edge_weight
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RP3BetaRecommender:
        """Fit the weights of walks between all items to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, with ``half_life``, ``timestamp``.
        y : array-like of shape (n,), default=None
            Feedback; None counts every row as 1.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> RP3BetaRecommender:
        """Add further rows and compute the walks again; parameters as in `fit`.

        Rows of a ``batch_id`` (a string or an integer, such as a file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the weight of the walks to each row's item from the user's items.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
            The scores of `recommend`.
        """
        return self._predict(X)

    @property
    def similarity_(self) -> csr_array:
        """Weights of walks that start at each item, shape (n_items_, n_items_), float32."""
        return self._fitted("similarity_").similarity

    @property
    def relation_weights_(self) -> dict[str, float]:
        """Weights of the walks over each relation of ``edges``."""
        return dict(self._fitted("relation_weights_").relation_weights)

    def _settings(self) -> RP3BetaSettings:
        return RP3BetaSettings(
            half_life=self.half_life,
            history_half_life=self.history_half_life,
            n_threads=self._n_threads(),
            alpha=self.alpha,
            beta=self.beta,
            n_neighbors=self.n_neighbors,
            zero_diagonal=self.zero_diagonal,
            decay_floor=self.decay_floor,
            edges=None if self.edges is None else check_edges(self.edges),
            edge_weight=self.edge_weight,
        )

    def _make_model(self, rows: Interactions) -> RP3BetaModel:
        settings = self._settings()
        if settings.edges is not None and rows.item_ids is not None:
            # Items of another type would join the catalogue beside those of the log.
            known, given = (
                {"edges, item_id": rows.item_ids},
                {"edges, item_id": settings.edges.item_ids},
            )
            warn_of_other_types(known, given)
        return RP3BetaModel(rows, settings)
