"""The last click changes the next list: `RealtimeTransformerRecommender`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils import Bunch, check_scalar
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin, RecommenderTags
from sklearn_recft.interactions import (
    Interactions,
    check_interactions,
    check_items,
    check_queries,
)
from sklearn_recft.models import (
    SEQUENCE_DEFAULTS,
    SEQUENCE_OPTIONS,
    Call,
    SequenceModel,
    SequenceSettings,
)
from sklearn_recft.modules import SequenceNet
from sklearn_recft.training import FineTuning, resolve_training


class RealtimeTransformerRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend the next item from the order and the times of a user's events.

    A transformer encodes the user's sequence of events. A query, with its time and its context,
    attends to that sequence and scores every item. `fit` trains on every step of every sequence
    and `partial_fit` on new ones. `observe` adds events to the history, so that the next list
    reflects the last click, without changing a weight.

    Parameters
    ----------
    backbone : str or None, default=None
        Text encoder of item texts: the name of a BERT-like model on the Hugging Face hub, its
        local folder, or ``"scratch"`` (a small random one). It is not trained. None knows items
        by id alone.
    n_layers : int, default=2
        Number of transformer blocks. In the last one the query attends to the events, in the
        others the events attend to each other.
    n_heads : int, default=2
        Number of attention heads of a block.
    max_history : int, default=200
        Number of past events that a query, or an event, attends to, at most.
    decay : {"log", "exponential", "none"}, default="log"
        Time decay of an event of age t days: its attention logit is reduced by ``lambda log(1 +
        t)`` or ``lambda t``, with a rate learned for each head. "none" uses the order of events
        but not their times.
    query_time : bool, default=True
        Whether a query uses the time since the user's last event.
    width : int, default=128
        Length of item vectors and hidden states, a multiple of ``n_heads``.
    dropout : float, default=0.2
        Dropout rate in `fit`, from 0 to 0.9; `partial_fit` has none.
    trend_half_lives : sequence of float, default=(3, 30, inf)
        Half-lives in days, ascending, of the popularity trends added to the scores. () adds
        none.
    history_dropout : float, default=0.3
        Fraction of the queries in `fit` whose newest events are hidden, so that the model
        learns to predict after a pause.
    n_negatives : int, default=None
        Number of items drawn for the softmax of each batch; 0 takes the whole catalogue. None
        is 0 up to 20,000 items, and 4,096 above.
    replay_size : int, default=0
        Number of sequences of other users rehearsed per call of `partial_fit`, at most.
    max_epochs : int, default=12
        Number of passes over the events in `fit`.
    training : FineTuning, default=None
        How the net is trained: learning rates, schedule, early stopping, `partial_fit` and
        more. None is ``FineTuning()``, the defaults of this estimator.
    n_jobs : int, default=None
        Number of threads; None is 1, -1 all cores.
    random_state : int, RandomState or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 prints the loss and the seconds of each epoch, and NDCG@10 with ``patience``.
    net_params : dict or None, default=None
        Parameters of `skorch.NeuralNet`, such as ``batch_size`` (here the number of events),
        ``device``, ``compile`` or ``callbacks``. A learning-rate scheduler among the callbacks
        replaces the warm-up and the schedule of ``training``.

    Attributes
    ----------
    decay_ : str
        Kind of time decay of the fitted model: "exponential", "log" or "none".
    half_lives_ : ndarray of shape (n_layers, n_heads)
        Days in which the weight of an event halves, learned; inf without decay.
    net_ : skorch.NeuralNet
        The net around ``module_``.
    module_ : torch.nn.Module
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    trend_period_ : float
        Seconds; trends are counted anew at its multiples. inf without trends.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    An event begins as ``x_j = v_item + g(time since the one before) + f feedback``; blocks of
    attention and hidden layers make of it a state. In head h of a block the logit of event j is
    ``q k_j / sqrt(d_h) + o_h[events back] - lambda_h log(1 + t_j)``. A query begins as the
    state of the user's last event plus ``g'(time since) + C context``, and ages are taken at its
    time. The score of an item is the product of the query's state z with the item's vector, and
    the sum of its trends, ``(w_k z + b_k) log p_ki``: a logit of the softmax over the catalogue. It
    orders items, and has no scale. Trends are shares of items in what everybody took, faded by
    each of ``trend_half_lives``, as known at the start of the day (or of a 256th of the fitted
    log, if that is less). Without query_time or without timestamps there are none.

    Events of one time follow each other as their rows do. A query sees what has come in up to
    its time; a row of `predict` that is itself an event of the history is asked just before it.
    Without ``timestamp`` a row is asked after all that is known; of a log without timestamps
    order alone is known. Rows whose feedback is not above 0 are remembered, and told to the
    model, but are no targets.

    With a backbone ``v_item = e_item + W c_item``, c being the whitened vector of its text, and
    the score has a term more, the likeness to what the user met: ``P c_item``, the profile P being
    a mix of fading means of the texts of past events, whose weights are linear in z. In answers,
    not in training, an item of n events also has ``8 cos(c_last, c_item) 2 / (n + 2)``, c_last
    being the text of the user's last event.

    `partial_fit` is a warm start, not exact: a few passes over the new steps and the rehearsed
    ones, at ``r = update_rate * b`` (0.1 b) times the learning rate, b being how full of these the
    batches are; the vector of an item of n events at ``r ** (n / (n + 100))`` times, so that new
    ones are learned as in a fit. Nothing is dropped out then, and no query is late. Kept of each
    user are ``2 * max_history`` events, and who met what.

    Users without events are answered by the quickest trend, or without trends by the items'
    counts, and so are all rows of unknown users.

    The defaults are the best of a few settings that were tried on the validation part of
    MovieLens 1M (see ``benchmarks``).

    References
    ----------
    Kang, W.-C. & McAuley, J. (2018). Self-attentive sequential recommendation. ICDM.
    Zhai, J. et al. (2024). Actions speak louder than words: trillion-parameter sequential
    transducers for generative recommendations. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft import RealtimeTransformerRecommender
    >>> X = np.array([[user, (user + step) % 5, 60 * step] for user in range(20)
    ...               for step in range(8)])  # who met 2 meets 3
    >>> model = RealtimeTransformerRecommender(random_state=0).fit(X)
    >>> news = [["me", 2, 600]]
    >>> model.recommend([["me", 660]], n_recommendations=1, history=news)[0]
    array([[3]])
    """

    _FIXED = (
        "backbone",
        "n_layers",
        "n_heads",
        "max_history",
        "decay",
        "query_time",
        "width",
        "dropout",
        "trend_half_lives",
        "history_dropout",
        "n_negatives",
        "training",
        "net_params",
    )
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="warm start",
        reads=("time", "order", "text", "context"),
        keeps="`2 * max_history` events a user, seen items, a vector an item, "
        "512 periods of counts",
        learns="the next item: attention over events in order, at a time and in a context",
    )
    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, None],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "max_history": [Interval(Integral, 1, None, closed="left")],
        "decay": [StrOptions({"exponential", "log", "none"})],
        "query_time": ["boolean"],
        "width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 0.9, closed="both")],
        "trend_half_lives": ["array-like"],
        "history_dropout": [Interval(Real, 0, 1, closed="both")],
        "n_negatives": [Interval(Integral, 0, None, closed="left"), None],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "training": [FineTuning, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "net_params": [dict, None],
    }

    def __init__(
        self,
        backbone: str | None = None,
        n_layers: int = 2,
        n_heads: int = 2,
        max_history: int = 200,
        decay: str = "log",
        query_time: bool = True,
        width: int = 128,
        dropout: float = 0.2,
        trend_half_lives: Sequence[float] = (3, 30, np.inf),
        history_dropout: float = 0.3,
        n_negatives: int | None = None,
        replay_size: int = 0,
        max_epochs: int = 12,
        training: FineTuning | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.max_history = max_history
        self.decay = decay
        self.query_time = query_time
        self.width = width
        self.dropout = dropout
        self.trend_half_lives = trend_half_lives
        self.history_dropout = history_dropout
        self.n_negatives = n_negatives
        self.replay_size = replay_size
        self.max_epochs = max_epochs
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, items: Any = None
    ) -> RealtimeTransformerRecommender:
        """Learn from nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp``, ``text`` and numeric
            context of the request; by name in a frame, by position in an array.
        y : array-like of shape (n,), default=None
            Feedback; what is above 0 is to be recommended. None: every row is.
        sample_weight : array-like of shape (n,), default=None
            What a row counts for as a target.
        items : table with columns ``item_id`` and ``text``, default=None
            Items that may be recommended although nobody has met them.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            A backbone that cannot be had, or bad columns.
        """
        self._fit(X, y, sample_weight, _call(items))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, items: Any = None
    ) -> RealtimeTransformerRecommender:
        """Learn further rows without forgetting; on an unfitted estimator the same as `fit`.

        Parameters are those of `fit`. Events that were observed before (of one user, item and
        time) are learned, and not remembered twice. A call that fails or is interrupted leaves no
        trace.
        """
        self._update(X, y, sample_weight, _call(items))
        return self

    def observe(self, X: Any, y: Any = None) -> RealtimeTransformerRecommender:
        """Remember events without moving a weight: what is asked next knows of them.

        An event that is remembered already (of one user, item and time) changes nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Their feedback, if `fit` had any.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        self._update(X, y, None, Call(weights=False))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Score (n,) of each row, from what its user did before it; higher is likelier.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            A row at whose time its user met its item is scored as of before that.
        """
        return self._predict(X)

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
        history: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best items for each query, best first; ties in catalogue order.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            A table has ``user_id`` and optionally ``timestamp`` and context columns.
        n_recommendations : int, default=10
        candidates : array-like of item ids, default=None
            The items to choose from; None for the whole catalogue.
        exclude_seen : bool, default=True
            Leave out what the user has already met.
        history : table of events, or a pair (table, feedback), default=None
            What the users did, ``user_id``, ``item_id`` and ``timestamp``, in place of what is
            remembered of them: for a service without a memory, and users never met. Items that
            are unknown are passed over.

        Returns
        -------
        items : ndarray of shape (n_queries, n_recommendations)
            Item ids.
        scores : ndarray of shape (n_queries, n_recommendations), float64
            Their scores, as of `predict`.
        """
        check_is_fitted(self)
        queries = check_queries(X, self)
        check_scalar(n_recommendations, "n_recommendations", Integral, min_val=1)
        model = self._sequence_model("recommend")
        with model.reading():
            if history is not None:
                model = model.with_history(self._check_history(history))
            return self._recommend(model, queries, n_recommendations, candidates, exclude_seen)

    def attend(self, X: Any) -> Bunch:
        """Which past events a row's query looks at.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            The attention is of the query: all items share it.

        Returns
        -------
        past : Bunch
            ``item_ids`` (n, max_history), newest first, None behind the last; ``attention`` (n,
            n_heads, max_history), which sums to 1 in each head where there is a past; ``age``
            (n, max_history) in days.
        """
        rows = self._check_rows(X)
        model = self._sequence_model("attend")
        with model.reading():
            attention, items, age = model.attention(model.encode(rows))
            names = np.full(items.shape, None, object)
            names[items >= 0] = model.items.decode(items[items >= 0])
        return Bunch(item_ids=names, attention=attention, age=age)

    @property
    def half_lives_(self) -> np.ndarray:
        """Days in which each head's weight of an event halves, shape (n_layers, n_heads)."""
        return np.stack([block.attention.half_lives() for block in self.module_.stack])

    @property
    def trend_period_(self) -> float:
        """Seconds of a period; trends are counted anew at its multiples."""
        return (
            np.inf
            if self.module_.mix is None
            else self._sequence_model("trend_period_").trends.period
        )

    @property
    def decay_(self) -> str:
        """Kind of time decay of the fitted model: "exponential", "log" or "none"."""
        model = self._sequence_model("decay_")
        return model.settings.decay if model.timed else "none"

    @property
    def module_(self) -> SequenceNet:
        """The net's module."""
        return self._fitted("module_").module

    @property
    def net_(self) -> Any:
        """The skorch net around ``module_``."""
        return self._fitted("net_").network.weights.net

    # ------------------------------------------------------------------ private

    def _sequence_model(self, name: str) -> SequenceModel:
        model: SequenceModel = self._fitted(name)
        return model

    def _settings(self) -> SequenceSettings:
        """Check what the parameters say together; return the settings of the model."""
        policy = resolve_training(
            self.training,
            self.net_params,
            defaults=SEQUENCE_DEFAULTS,
            supported=SEQUENCE_OPTIONS,
            parameters=self._get_param_names(),
        )
        if self.width % self.n_heads:
            raise ValueError(
                f"width={self.width}: it must be a multiple of n_heads={self.n_heads}."
            )
        if not _are_ascending(self.trend_half_lives):
            raise ValueError(
                f"trend_half_lives={self.trend_half_lives!r}: they must be positive numbers of "
                "days in ascending order, or () for no trends."
            )
        if policy.freeze_blocks != "all" and int(policy.freeze_blocks) > self.n_layers:
            raise ValueError(
                f"training: freeze_blocks={policy.freeze_blocks}; it must be 'all' or an int from "
                f"0 to n_layers={self.n_layers}."
            )
        return SequenceSettings(
            backbone=self.backbone,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            max_history=self.max_history,
            decay=self.decay,
            query_time=self.query_time,
            width=self.width,
            dropout=self.dropout,
            trend_half_lives=tuple(map(float, self.trend_half_lives)),
            history_dropout=self.history_dropout,
            n_negatives=self.n_negatives,
            replay_size=self.replay_size,
            max_epochs=self.max_epochs,
            policy=policy,
            net_params=dict(self.net_params or {}),
            n_threads=self._n_threads(),
            verbose=self.verbose,
        )

    def _make_model(self, rows: Interactions) -> SequenceModel:
        return SequenceModel(rows, replace(self._settings(), seed=self._seed()))

    def _check_history(self, history: Any) -> Interactions:
        """Check the events that stand in for what is remembered."""
        X, y = history if isinstance(history, tuple) else (history, None)
        rows = check_interactions(X, y)
        if (y is None) != self._model.positives_only:
            raise ValueError(
                "history: fit was given feedback, and so must history be, as (table, feedback)."
                if y is None
                else "history: fit was given no feedback; give the table of events alone."
            )
        return rows


def _call(items: Any) -> Call:
    """Return how to learn, with the items of a table that is checked."""
    return Call(catalogue=None if items is None else check_items(items))


def _are_ascending(days: Any) -> bool:
    """Whether all are positive numbers, each above the one before it."""
    try:
        known = np.asarray(days, float)
    except (TypeError, ValueError):
        return False
    return known.ndim == 1 and bool((np.diff(known, prepend=0) > 0).all())
