"""Target attention over item texts with learned time decay: `DecayBertRecommender`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderTags, unboxed
from sklearn_recft.estimators._embedding import EmbeddingMixin, catalogue_call
from sklearn_recft.estimators._labels import BinaryLabelsMixin, class_weights
from sklearn_recft.estimators._verbs import AdaptMixin, AttendMixin, ExplainMixin, SimilarItemsMixin
from sklearn_recft.events import Interactions
from sklearn_recft.models import DECAY_DEFAULTS, DECAY_OPTIONS, Call, DecayModel, DecaySettings
from sklearn_recft.modules import DecayNet
from sklearn_recft.text import PretrainedBackbone
from sklearn_recft.training import FineTuning, resolve_training


class DecayBertRecommender(
    AdaptMixin,
    AttendMixin,
    ExplainMixin,
    SimilarItemsMixin,
    EmbeddingMixin,
    BinaryLabelsMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Predict whether a user will click, buy or like an item, from past events and texts.

    The model attends from a candidate item to the user's past events. It compares the vectors
    of their texts, which a pretrained BERT computes once. The weight of a past event halves with
    a half-life that is learned for each attention head. Online features of the user and the item
    are further inputs: rates, popularity, and an online factorization.

    Parameters
    ----------
    backbone : str, PretrainedBackbone or None, default="auto"
        Text encoder: the name of a BERT-like model on the Hugging Face hub, or its local folder;
        ``"scratch"`` for a small random one whose tokenizer is trained on the given texts; what
        `sklearn_recft.text.pretrain` returned; None to use no texts. ``"auto"`` uses texts if ``X``
        has any, by
        sentence-transformers/all-MiniLM-L6-v2. It is loaded from the cache of the hub, else from
        the package of the extra ``[bert]``, else downloaded.
    decay : {"exponential", "log", "none"}, default="exponential"
        Time decay of a past event of age t days: its attention logit is reduced by ``lambda t``,
        by ``lambda log(1 + t)``, or not at all.
    n_heads : int, default=4
        Number of attention heads; each has its own half-life.
    max_history : int, default=50
        Maximal number of past events of a user that the model attends to.
    freeze : {"all", "none"} or int, default="all"
        Layers of the text encoder that are not trained: all, none, or this number of the lowest
        layers. It needs a ``backbone``.
    outcome : str or None, default=None
        Column of ``X`` with auxiliary feedback that is known only after the event, such as a
        rating behind a like or seconds of listening. Only that of past events is used; `predict`
        and `recommend` ignore the column.
    width : int, default=32
        Length of an item's vector. The hidden layer has ``2 * width`` units.
    n_factors : int, default=64
        Number of factors of the online factorization.
    cold_dropout : float, default=0.3
        Fraction of training rows whose item is treated as a cold-start item: only its text is
        used.
    n_negatives : int, default=4
        Number of negatives sampled per event if ``y`` is None.
    replay_size : int, default=2048
        Number of past rows that are stored, and rehearsed together with new rows in `partial_fit`,
        if that trains the net (``update_rate`` of `FineTuning` above 0).
    max_epochs : int, default=2
        Number of passes over the rows in `fit`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn.
    training : FineTuning, default=None
        How the net is trained: learning rates, schedule, early stopping and more. None is
        ``FineTuning()``, the defaults of this estimator.
    n_jobs : int or None, default=None
        Number of threads. None is one, which is bitwise reproducible within a process.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 prints a line for each epoch: the loss, the seconds it took and that are left.
    net_params : dict or None, default=None
        Parameters of `skorch.NeuralNet`, such as ``batch_size``, ``device``, ``callbacks`` or
        ``optimizer``. A learning-rate scheduler among the callbacks replaces the warm-up and
        the schedule of ``training``.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    decay_ : str
        Kind of time decay of the fitted model: "exponential", "log" or "none".
    half_lives_ : ndarray of shape (n_heads,)
        Learned half-lives of event weights in days; inf without decay.
    query_weight_ : float
        Weight of the similarity in meaning of search words and item; the prior, 10, before any row
        with words.
    lexical_weights_ : dict of str to float
        Weights of the similarities of search words and item by "words" and by "letters", which are
        character n-grams; the prior, 5, before any row with words.
    net_ : skorch.NeuralNet
        The net around ``module_``.
    module_ : torch.nn.Module
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    feature_columns_ : list of str
        ``["embedding"]`` if `fit` had vectors of items, else empty.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The logit is ``W2 ReLU(W1 x) + w . s``, where s are the online features. The input x holds s,
    the vector z of the item, and the outputs of each attention head h. For past items j with
    feedback f and age t, these are ``sum_j a_j z_j * z``, ``sum_j a_j f_j z_j * z`` and their sums.
    The attention is ``a = softmax_j(z^T A_h z_j + b_h f_j + s_h [j is the item] - lambda_h t_j)``
    with an additional null key. In training and in prediction, a row sees only events strictly
    before it; events with equal timestamps do not see each other.

    `observe` updates counts, histories and user factors. `partial_fit` also updates item factors,
    and the net if ``update_rate`` is positive, with rehearsal of past rows. It is a warm start, not
    exact. The model stores ``2 * max_history`` events and the distinct items of each user.

    Without ``text``, or with a blank one, the id is the text of an item, and items get an
    embedding. With ``y=None`` every row is a positive. Negatives are sampled at the time of each
    row, from the items known by then.

    Vectors of items that were made elsewhere, such as embeddings of images, are given in a column
    ``embedding`` of ``X`` or of ``items``: lists of finite numbers of one length, None where
    missing. They are standardized, and a linear map of them is added to the vector of the item. An
    item keeps its first vector.

    A column ``query`` adds ``w cos(c_q, c_i) + b`` to the logits of the rows that have search
    words, where c are centered text vectors. The net does not read the words, so rows without them
    keep their logits bit by bit, whether other rows have words or not. `fit` holds out the newest
    rows, with 20 % of the queries, from a second net, and takes w and b that minimize the log-loss
    beside its logits. With words, `fit` so trains two nets. `partial_fit` predicts new rows before
    it learns them; a normal distribution of w and b sums up what is known. At first, w is
    N(10, 10^2) and b is N(-3, 3^2), also if no row of `fit` has words. With labels, w says how much
    the words separate them: it is 0 if dislikes match the words as well as likes.

    The settings are the best found on the validation parts of MovieLens 100K and 1M (see
    ``benchmarks``).

    References
    ----------
    Zhou, G. et al. (2018). Deep interest network for click-through rate prediction. KDD.
    Devlin, J. et al. (2019). BERT. NAACL.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft import DecayBertRecommender
    >>> log = pd.DataFrame({
    ...     "user_id": ["ann", "ann", "bob", "bob"], "item_id": ["t", "c", "t", "c"],
    ...     "timestamp": [10, 20, 30, 40], "text": ["green tea", "coffee"] * 2})
    >>> model = DecayBertRecommender(backbone="scratch", random_state=0).fit(log, [1, 0, 1, 0])
    >>> model.predict_proba(log).shape
    (4, 2)
    >>> news = pd.DataFrame({"item_id": ["m"], "text": ["black tea"]})
    >>> model.partial_fit(log[:1], [1], items=news).n_items_
    3
    """

    _FIXED = (
        "backbone",
        "decay",
        "n_heads",
        "max_history",
        "freeze",
        "outcome",
        "width",
        "n_factors",
        "replay_size",
        "class_weight",
        "training",
        "net_params",
    )
    _TAGS = RecommenderTags(
        predicts="probability",
        partial_fit="warm start",
        reads=("time", "text", "query", "context"),
        adapts="the user's history, rates and factors",
        keeps="`2 * max_history` events a user, distinct items, tables, `replay_size` rows",
        splits_fit=True,
        learns="clicks, likes or positives: attention over item texts of a decaying history, "
        "online rates and factors",
    )
    _parameter_constraints: ClassVar[dict] = {
        "backbone": [str, PretrainedBackbone, None],
        "decay": [StrOptions({"exponential", "log", "none"})],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "max_history": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "freeze": [StrOptions({"all", "none"}), Interval(Integral, 0, None, closed="left")],
        "outcome": [str, None],
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "cold_dropout": [Interval(Real, 0, 1, closed="both")],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "training": [FineTuning, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "net_params": [dict, None],
    }

    def __init__(
        self,
        backbone: str | PretrainedBackbone | None = "auto",
        decay: str = "exponential",
        n_heads: int = 4,
        max_history: int = 50,
        freeze: Any = "all",
        outcome: str | None = None,
        width: int = 32,
        n_factors: int = 64,
        cold_dropout: float = 0.3,
        n_negatives: int = 4,
        replay_size: int = 2048,
        max_epochs: int = 2,
        class_weight: Mapping[Any, float] | str | None = None,
        training: FineTuning | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.decay = decay
        self.n_heads = n_heads
        self.max_history = max_history
        self.freeze = freeze
        self.outcome = outcome
        self.width = width
        self.n_factors = n_factors
        self.cold_dropout = cold_dropout
        self.n_negatives = n_negatives
        self.replay_size = replay_size
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, items: Any = None
    ) -> DecayBertRecommender:
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp``, ``text``, ``embedding`` (a
            vector of the item), ``query`` (search words of the request, None in rows without any),
            numeric context and the column named by ``outcome``; by name in a frame, by position in
            an array.
        y : array-like of shape (n,), default=None
            Labels of two classes. None means that every row is a positive.
        sample_weight : array-like of shape (n,), default=None
        items : table with columns ``item_id``, and ``text`` or ``embedding``, default=None
            Further items of the catalogue, which may have no events, and vectors of any items.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there are not two classes, the backbone cannot be loaded, or columns are invalid; if
            rows have a query, and the model reads no texts or trains its text encoder; if an item
            has another vector than before.
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
        classes: Any = None,
        items: Any = None,
        batch_id: Any = None,
    ) -> DecayBertRecommender:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing.

        Parameters
        ----------
        classes : array-like of shape (2,), default=None
            Both labels, if the first call may not contain both.
        batch_id : str or int, default=None
            Name of these rows, such as a file name. Rows of one name are learned once.

        Returns
        -------
        self : object
        """
        self._update(X, y, sample_weight, catalogue_call(items), batch_id=batch_id, classes=classes)
        return self

    def observe(self, X: Any, y: Any = None) -> DecayBertRecommender:
        """Add events to the histories without changing weights; later queries see them.

        Histories, counts, rates and user factors are updated. Item factors and the net are not, and
        never learn from these rows later. A row that is also passed to `partial_fit` counts twice.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Labels of the events, if `fit` had any.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        self._update(X, y, None, Call(weights=False))
        return self

    def partial_fit_predict_proba(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, items: Any = None
    ) -> np.ndarray:
        """Predict each row, then learn it, in time order: the prequential loop in one call.

        Parameters are those of `fit`. The prediction of a row uses strictly earlier rows only. The
        net is updated at the end of the call, if ``update_rate`` is positive. On an unfitted
        estimator, the predictions come from the online features alone, and the net is fitted at the
        end of the call. Rows of weight 0 are predicted, but not learned.

        Returns
        -------
        y_proba : ndarray of shape (n,), float64
            Probability of the second class of each row just before it was learned.
        """
        self._validate_params()
        return self._update(X, y, sample_weight, catalogue_call(items, predict=True))

    def observe_predict_proba(self, X: Any, y: Any = None) -> np.ndarray:
        """Predict each row, then `observe` it, in time order, in one call.

        Returns
        -------
        y_proba : ndarray of shape (n,), float64
            Probability of the second class of each row just before it was observed.
        """
        check_is_fitted(self)
        return self._update(X, y, None, Call(weights=False, predict=True))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the log-odds (n,) of the second class for each row, at its time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Rows without ``timestamp`` come after all known events.
        """
        return self._predict(X)

    @property
    def half_lives_(self) -> np.ndarray:
        """Half-life of event weights in days, shape (n_heads,)."""
        return self.module_.attention.half_lives()

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
        decay: str = self._fitted("decay_").settings.decay
        return decay

    @property
    def module_(self) -> DecayNet:
        """The net's module."""
        return self._fitted("module_").module

    @property
    def net_(self) -> Any:
        """The skorch net around ``module_``."""
        return self._fitted("net_").network.weights.net

    # ------------------------------------------------------------------ private

    def _probability(self, X: Any) -> np.ndarray:
        return expit(self.decision_function(X))

    def _check(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> Interactions:
        events = super()._check(X, y, sample_weight, reset=reset, classes=classes)
        if self.outcome is not None and events.outcome is None:
            raise ValueError(
                f"outcome={self.outcome!r} is no column of X; add it, or set outcome to None."
            )
        return events

    def _settings(self) -> DecaySettings:
        """Check combinations of parameters, and return the settings of the model."""
        policy = resolve_training(
            self.training,
            self.net_params,
            defaults=DECAY_DEFAULTS,
            supported=DECAY_OPTIONS,
            parameters=self._get_param_names,
        )
        if self.backbone is None and self.freeze != "all":
            raise ValueError(
                f"freeze={self.freeze!r}: backbone=None has no layers to freeze; give a backbone, "
                "or leave freeze at its default."
            )
        if policy.lora_rank and (self.backbone is None or self.freeze == "all"):
            raise ValueError(
                f"training: lora_rank={policy.lora_rank}, but no layer of a text encoder is "
                "trained; give a backbone, and freeze='none' or a number of layers."
            )
        settings = DecaySettings(
            backbone=self.backbone,
            decay=self.decay,
            n_heads=self.n_heads,
            max_history=self.max_history,
            freeze=self.freeze,
            outcome=self.outcome is not None,
            width=self.width,
            n_factors=self.n_factors,
            cold_dropout=self.cold_dropout,
            n_negatives=self.n_negatives,
            replay_size=self.replay_size,
            max_epochs=self.max_epochs,
            policy=policy,
            net_params=dict(self.net_params or {}),
            n_threads=self._n_threads(),
            verbose=self.verbose,
        )
        return cast(DecaySettings, unboxed(settings))

    def _make_model(self, rows: Interactions) -> DecayModel:
        labels = rows.feedback
        negative, positive = class_weights(self.class_weight, self.classes_, labels).tolist()
        weights = (negative, positive)
        return DecayModel(rows, replace(self._settings(), class_weights=weights, seed=self._seed()))
