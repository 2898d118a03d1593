"""Next-item recommendation by a transformer: `RealtimeTransformerRecommender`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin, RecommenderTags, unboxed
from sklearn_recft.estimators._embedding import EmbeddingMixin, catalogue_call
from sklearn_recft.estimators._verbs import (
    AdaptMixin,
    AttendMixin,
    ExplainMixin,
    HistoryMixin,
    SimilarItemsMixin,
)
from sklearn_recft.events import Interactions
from sklearn_recft.models import (
    SEQUENCE_DEFAULTS,
    SEQUENCE_OPTIONS,
    Call,
    SequenceModel,
    SequenceSettings,
)
from sklearn_recft.modules import SequenceNet
from sklearn_recft.text import PretrainedBackbone
from sklearn_recft.training import FineTuning, resolve_training


class RealtimeTransformerRecommender(
    AdaptMixin,
    AttendMixin,
    ExplainMixin,
    HistoryMixin,
    SimilarItemsMixin,
    EmbeddingMixin,
    RecommenderMixin,
    RegressorMixin,
    BaseEstimator,
):
    """Recommend the next item from the order and the times of a user's events.

    A transformer encodes the user's sequence of events. A query, with its time and its context,
    attends to that sequence and scores every item. `fit` trains on every step of every sequence
    and `partial_fit` on new ones. `observe` adds events to the history, so that the next list
    reflects the last click, without changing a weight.

    Parameters
    ----------
    backbone : str, PretrainedBackbone or None, default=None
        Text encoder of item texts: the name of a BERT-like model on the Hugging Face hub, its
        local folder, ``"scratch"`` (a small random one), or what `sklearn_recft.text.pretrain`
        returned. It is not trained. None uses item ids only.
    n_layers : int, default=2
        Number of transformer blocks. In the last one the query attends to the events, in the
        others the events attend to each other.
    n_heads : int, default=2
        Number of attention heads of a block.
    max_history : int, default=200
        Maximal number of past events that a query or an event attends to.
    decay : {"log", "exponential", "none"}, default="log"
        Time decay of an event of age t days: its attention logit is reduced by ``lambda log(1 +
        t)`` or ``lambda t``, with a rate learned for each head. "none" uses the order of events
        but not their times.
    query_time : bool, default=True
        Whether a query uses the time since the user's last event.
    width : int, default=128
        Length of item vectors and hidden states, a multiple of ``n_heads``.
    dropout : float, default=0.2
        Dropout rate in `fit`, from 0 to 0.9; it is disabled in `partial_fit`.
    trend_half_lives : sequence of float, default=(3, 30, inf)
        Half-lives in days, ascending, of the popularity trends in the scores. () disables
        trends.
    history_dropout : float, default=0.3
        Fraction of the queries in `fit` whose newest events are hidden, so that the model
        learns to predict after a pause.
    n_negatives : int, default=None
        Number of negatives sampled for the softmax of each batch; 0 uses all items. None
        is 0 up to 20,000 items, and 4,096 above.
    replay_size : int, default=0
        Maximal number of sequences of other users that a call of `partial_fit` rehearses.
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
        1 prints a line for each epoch: the loss, the seconds it took and that are left, and
        NDCG@10 with ``patience``.
    net_params : dict or None, default=None
        Parameters of `skorch.NeuralNet`, such as ``batch_size`` (here the number of events),
        ``device``, ``compile`` or ``callbacks``. A learning-rate scheduler among the callbacks
        replaces the warm-up and the schedule of ``training``.

    Attributes
    ----------
    decay_ : str
        Kind of time decay of the fitted model: "exponential", "log" or "none".
    half_lives_ : ndarray of shape (n_layers, n_heads)
        Learned half-lives of event weights in days; inf without decay.
    net_ : skorch.NeuralNet
        The net around ``module_``.
    module_ : torch.nn.Module
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    query_weight_ : float
        Weight of the similarity in meaning of search words and item; the prior, 10, before any row
        with words.
    lexical_weights_ : dict of str to float
        Weights of the similarities of search words and item by "words" and by "letters", which are
        character n-grams; the prior, 5, before any row with words.
    trend_period_ : float
        Length of a trend period in seconds; trends change at its multiples. inf without trends.
    feature_columns_ : list of str
        ``["embedding"]`` if `fit` had vectors of items, else empty.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The input state of an event is ``x_j = v_item + g(time since the previous event) + f feedback``.
    Blocks of attention and hidden layers transform it. In head h of a block, the logit of event j
    is ``q k_j / sqrt(d_h) + o_h[events back] - lambda_h log(1 + t_j)``. The input state of a query
    is the state of the user's last event plus ``g'(time since) + C context``, and ages are taken at
    the query time. The score of an item is the product of the query state z and the item's vector,
    plus the sum of its trends, ``(w_k z + b_k) log p_ki``. It is a logit of the softmax over the
    catalogue, so only its order has a meaning. ``p_ki`` is the share of item i in the events of all
    users, with exponential decay by ``trend_half_lives[k]``. It uses events before the start of the
    day, or of 1/256 of the time span of the fitted log if that is shorter. There are no trends
    without ``query_time`` or without timestamps.

    Events with equal timestamps keep the order of their rows. A query sees all events up to its
    time. A row of `predict` that is an event of the history itself is scored just before that
    event. A row without ``timestamp`` comes after all known events. Without timestamps in `fit`,
    only the order of events is used. Rows with feedback of 0 or less are part of the history, but
    not targets.

    With a backbone, ``v_item = e_item + W c_item``, where c is the whitened text vector, and a
    content term ``P c_item`` is added to the score. The profile P is a weighted sum of exponential
    moving averages of the text vectors in the user's history; the weights are a linear function of
    z. Predictions also add ``8 cos(c_last, c_item) 2 / (n + 2)`` for an item of n events, where
    c_last is the text vector of the user's last event.

    Vectors of items that were made elsewhere, such as embeddings of images, are given in a column
    ``embedding`` of ``X`` or of ``items``: lists of finite numbers of one length, None where
    missing. They are standardized and whitened, and enter the score as text vectors do; with both,
    c_item holds both, and a cosine is the mean of the two. An item keeps its first vector.

    `partial_fit` is a warm start, not exact: it trains for a few epochs on new and rehearsed
    events. The learning rate is multiplied by ``r = update_rate * b`` (0.1 b), where b is the
    fraction of each batch that contains targets. The vector of an item of n events uses the factor
    ``r ** (n / (n + 100))``, so new items learn at the rate of a fit. Dropout and truncated
    histories are disabled. The model stores ``2 * max_history`` events and the seen items of each
    user.

    A column ``query`` adds ``w cos(c_q, c_i)`` to the scores of the rows that have search words,
    where c_q is the whitened vector of the words. The net does not read the words, so rows without
    them keep their scores bit by bit, whether other rows have words or not. `fit` holds out the
    newest rows, with 20 % of the queries, from a second net, and takes the weight w that predicts
    their items best beside its scores. A net would fit its own rows too well, and w would be too
    small. With words, `fit` so trains two nets. `partial_fit` scores new rows before it learns
    them; a normal distribution of w sums up what is known. At first it is N(10, 10^2), also if no
    row of `fit` has words.

    Users without events get the trend of the shortest half-life, or item popularity if there are
    no trends. The same holds for unknown users.

    The defaults are the best of a few settings on the validation part of MovieLens 1M (see
    ``benchmarks``).

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
    ...               for step in range(8)])  # item 3 follows item 2
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
        reads=("time", "order", "text", "query", "context"),
        adapts="the user's history",
        keeps="`2 * max_history` events a user, seen items, a vector an item, "
        "512 periods of counts",
        splits_fit=True,
        learns="the next item: attention over events in order, at a time and in a context",
    )
    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, PretrainedBackbone, None],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "max_history": [Interval(Integral, 1, 2**31 - 1, closed="both")],
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
        backbone: str | PretrainedBackbone | None = None,
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
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp``, ``text``, ``embedding`` (a
            vector of the item), ``query`` (search words of the request, None in rows without any)
            and numeric context of the request; by name in a frame, by position in an array.
        y : array-like of shape (n,), default=None
            Feedback; rows above 0 are positives. None means that every row is a positive.
        sample_weight : array-like of shape (n,), default=None
            Weights of rows as targets.
        items : table with columns ``item_id``, and ``text`` or ``embedding``, default=None
            Further items of the catalogue, which may have no events, and vectors of any items.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the backbone cannot be loaded, or columns are invalid; if rows have a query, and the
            model reads no texts; if an item has another vector than before.
        """
        self._fit(X, y, sample_weight, catalogue_call(items))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        items: Any = None,
        batch_id: Any = None,
    ) -> RealtimeTransformerRecommender:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

        Parameters are those of `fit`. With timestamps, events that were observed before (same user,
        item and time) are learned, but not stored twice. Rows of a ``batch_id`` (a string or an
        integer, such as a file name) are learned once. A call that fails or is interrupted changes
        nothing.
        """
        self._update(X, y, sample_weight, catalogue_call(items), batch_id=batch_id)
        return self

    def observe(self, X: Any, y: Any = None) -> RealtimeTransformerRecommender:
        """Add events to the histories without changing weights; later queries see them.

        With timestamps, an event that is stored already (same user, item and time) changes nothing.
        Observed events are targets of later training only if they are passed to `partial_fit` as
        well, or if their user is rehearsed (``replay_size``).

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Feedback of the events, if `fit` had any.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        self._update(X, y, None, Call(weights=False))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Score each row from the user's history before it, (n,); higher is more likely.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            A row that is an event of the history itself is scored just before that event.
        """
        return self._predict(X)

    @property
    def half_lives_(self) -> np.ndarray:
        """Half-life of event weights in days, shape (n_layers, n_heads)."""
        return np.stack([block.attention.half_lives() for block in self.module_.stack])

    @property
    def trend_period_(self) -> float:
        """Length of a trend period in seconds; trends change at its multiples."""
        return (
            np.inf
            if self.module_.mix is None
            else self._sequence_model("trend_period_").trends.period
        )

    @property
    def query_weight_(self) -> float:
        """Weight of the similarity in meaning of search words to an item's text."""
        return self._fitted("query_weight_").query_term.weight

    @property
    def lexical_weights_(self) -> dict[str, float]:
        """Weights of the similarities of search words to an item's text by words and letters."""
        weights = self._fitted("lexical_weights_").query_term.lexical_weights
        return dict(zip(("words", "letters"), weights.tolist(), strict=True))

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
        """Check combinations of parameters, and return the settings of the model."""
        policy = resolve_training(
            self.training,
            self.net_params,
            defaults=SEQUENCE_DEFAULTS,
            supported=SEQUENCE_OPTIONS,
            parameters=self._get_param_names,
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
        settings = SequenceSettings(
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
        return cast(SequenceSettings, unboxed(settings))

    def _make_model(self, rows: Interactions) -> SequenceModel:
        return SequenceModel(rows, replace(self._settings(), seed=self._seed()))


def _are_ascending(days: Any) -> bool:
    """Return whether all values are positive and strictly ascending."""
    try:
        known = np.asarray(days, float)
    except (TypeError, ValueError):
        return False
    return known.ndim == 1 and bool((np.diff(known, prepend=0) > 0).all())
