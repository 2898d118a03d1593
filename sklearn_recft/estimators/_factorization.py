"""Matrix factorization with incremental updates: `IncrementalMFRecommender`."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._factorization_base import FactorizationMixin
from sklearn_recft.estimators._verbs import HistoryMixin
from sklearn_recft.events import Interactions
from sklearn_recft.lists import check_flag, check_length
from sklearn_recft.models import (
    Call,
    FactorizationSettings,
    Listing,
    SoftmaxFactorizationSettings,
)
from sklearn_recft.training import FineTuning


def _adapts(estimator: Any) -> bool:
    """Raise an attribute error if users of the loss cannot be solved for in closed form."""
    if estimator.loss in ("bpr", "softmax"):
        raise AttributeError(f"adapt: with loss={estimator.loss!r}, call partial_fit.")
    return True


def _lists_in_passes(estimator: Any) -> bool:
    return bool(estimator.loss == "softmax" and estimator.habit_half_life is None)


class IncrementalMFRecommender(HistoryMixin, FactorizationMixin, RegressorMixin, BaseEstimator):
    """Biased matrix factorization with incremental updates.

    Predictions are ``y_hat = link(mu + b_u + b_i + p_u . q_i + w . context)``. The link is the
    identity (``"squared_error"``: ratings, counts), the logistic function (``"log_loss"``: shares
    and probabilities in 0 to 1), or the score itself (``"bpr"``: ranking, every row is a positive).
    For labels of two classes, such as clicks, use `IncrementalMFClassifier`.

    ``"softmax"`` also ranks. Its scores are ``s_ui = h_u . q_i + beta log(1/2 + n_i)`` with the
    user's state ``h_u = p_u + sum_k c_k v_(i_k) / sqrt(sum_k c_k)``. The sum is over the user's
    last events, newest first. ``q_i`` and ``v_i`` are factors of the item as candidate and as
    taken before, and ``n_i`` is its decayed count.

    Parameters
    ----------
    n_factors : int, default=64
        Length of ``p_u`` and ``q_i``.
    loss : {"squared_error", "log_loss", "bpr", "softmax"}, default="squared_error"
        Loss function. With ``"bpr"`` and ``"softmax"``, ``y`` may be None; rows with ``y <= 0``
        are ignored. "softmax" is more accurate than "bpr" on sparse logs; see the notes.
    solver : {"sgd", "adam"}, default="sgd"
        "sgd": compiled stochastic gradient descent on the CPU. "adam": a skorch net, on any
        device, configurable by ``net_params``; slower, slightly less accurate, not for "softmax".
    learning_rate : float, default=None
        None uses a tuned value for the loss and the solver (0.045 for ratings with "sgd").
    reg : float, default=None
        L2 penalty per event. None uses a tuned value (0.045 for ratings). With "softmax", 0.2, or
        0.1 with a ``history_half_life``; try 0.05 where users take the same items again.
    max_epochs : int, default=None
        Number of passes over the rows in `fit`. None is 30; with "softmax", as many as make three
        million steps, but 2 to 8.
    half_life : float, default=None
        Half-life of event weights in days, relative to the newest event of a call. None disables
        the decay. With "bpr" and "softmax", the popularity in the model decays instead of the
        event weights. Set it with "softmax": 7 or 30 days were best on timelines.
    replay_size : int, default=0
        Number of past events that are stored (a uniform sample). `partial_fit` rehearses one of
        them per new event. Not for "softmax".
    habit_half_life : float, default=None
        With "bpr" and "softmax": half-life in days of habits. ``8 log(1 + S / 0.05)`` is added to
        the score of each pair, S being the decayed count of the user's earlier baskets with the
        item (`HabitRecommender`), once the log has shown a repeat. None adds nothing. Repeats are
        listed only with ``exclude_seen=False``.
    history_half_life : float, default=None
        With "softmax": half-life of ``c_k`` in events. A number makes a model of the next event:
        it learns from the order of each user's events, and users have no ``p_u``. None weights
        the last 50 events alike and ignores their order: for lists for a long time to come.
    popularity_weight : float, default=None
        With "softmax": the weight ``beta`` of popularity in scores. None is 1, or 0.5 with a
        ``history_half_life``. It does not change what is learned. Try 1 where a list is needed
        before every event.
    drift : {"follow"}, default=None
        None: one copy of the tables, whose steps get smaller with the events of an id. "follow": a
        second, fast copy beside it, whose steps stay large. Predictions are a weighted mean of
        both; the copy with the smaller recent errors has the larger weight. This follows users
        whose tastes change, at twice the time and memory. For "squared_error" and "log_loss" with
        "sgd".
    training : FineTuning, default=None
        How the net of ``solver="adam"`` is trained: schedule, clipping, early stopping and more.
        None is ``FineTuning()``, the defaults of this estimator. With "sgd" it must be None.
    n_jobs : int, default=None
        Number of threads. None is one, which is bitwise reproducible. With more, "sgd" is lock-free
        and not reproducible.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 shows the progress of `fit`: with "sgd" a bar with the time left and, except with
        "softmax", the mean loss of 10,000 of the rows; with "adam" a line for each epoch.
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet` for ``solver="adam"``, such as ``batch_size``,
        ``device``, ``optimizer`` or ``callbacks``; not with "sgd". With an ``EarlyStopping``
        callback the newest tenth of the rows is the validation set. A learning-rate scheduler
        among the callbacks replaces the warm-up and the schedule of ``training``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The model: tables of factors and biases with one row per code.
    net_ : skorch.NeuralNet
        The net around ``module_``, with ``solver="adam"`` only.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    user_factors_, item_factors_ : ndarray of shape (n_users_, n_factors) or (n_items_, n_factors)
        ``p_u`` ("softmax": the state ``h_u``) and ``q_i``, in the order of the ids.
    user_biases_, item_biases_ : ndarray of shape (n_users_,) or (n_items_,)
        ``b_u`` (0 with "softmax") and ``b_i`` ("softmax": ``beta log(1/2 + n_i)``).
    intercept_ : float
        ``mu`` (0 with "softmax").
    drift_ : Bunch
        With ``drift="follow"`` only. ``fast_weight``: the weight ``v`` of the fast copy.
        ``losses``, shape (n, 2): mean losses of the slow and of the fast copy over 32 events each
        before these were learned, newest last, at most 1024; squared errors are in units of the
        variance of ``y``. ``n_blocks``: how many there were so far.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    In the average context, the score of a known user and a known item before the link, without
    habits, is ``intercept_ + user_biases_[u] + item_biases_[i] + user_factors_[u] @
    item_factors_[i]``. Predictions of ratings are clipped to the range of ``y`` in training. The
    arrays are read-only copies in float32, safe to read while another thread updates the model.

    `partial_fit` is a warm start, not exact. New ids are initialized by a ridge regression on the
    factors of the other side ("bpr": by the mean of the newest users). With "sgd", each row is then
    learned once. The step size decreases with the number of events of the user and the item; with
    "bpr" it is small and constant. "adam" trains for one epoch. The model keeps ``replay_size``
    past events, each user's distinct items, and one row of numbers per id. An unknown id gets the
    mean of the 300 newest ids.

    With "softmax", the loss of an event is the negative logarithm of its item's softmax among the
    item and sampled negatives (16 in `fit`, 32 in updates). Half of them are drawn uniformly, half
    as often as they occur. The score in the loss is ``h_u . q_i + log(1/2 + n_i)`` less the
    logarithm of the probability to be drawn, so the factors learn what popularity does not tell.
    Steps are those of row-wise Adagrad. In `fit` without ``history_half_life``, events of a user
    are visited in random order: each is predicted from some of the others, earlier or later. Each
    event of `partial_fit` is one step on the user, the candidates and the user's last events. New
    items start at random. The model keeps the last items of each user (50, or 10 half-lives), and
    a uniform sample of 32,768 items taken. Unknown users get the items by popularity.

    With ``drift="follow"``, tables, memory and time double. The fast copy makes the steps of users
    one and a half times as large, as if none had more than 20 events. The score is ``(1 - v)
    s_slow + v s_fast``. `partial_fit` learns ``v`` by fixed share (Herbster & Warmuth 1998, share
    1e-4) from the loss of each copy on rows that it has not learned yet. `predict`, `recommend`,
    `explain`, `similar_items`, ``intercept_``, factors and biases are those of the mixture:
    factors have ``2 n_factors`` columns, the slow ones times ``sqrt(1 - v)``, then the fast ones
    times ``sqrt(v)``. `adapt` solves for the users in both copies and keeps ``v``. ``module_`` is
    the slow copy, which equals the model with ``drift=None`` exactly. Only it rehearses
    (``replay_size``).

    The settings are the best found on MovieLens 100K and 1M, for "bpr" also on The Complete
    Journey and Online Retail, for "softmax" also on Amazon Beauty (see ``benchmarks``).

    References
    ----------
    Koren, Y., Bell, R., & Volinsky, C. (2009). Matrix factorization techniques for recommender
    systems. IEEE Computer 42(8). Rendle, S. et al. (2009). BPR: Bayesian personalized ranking
    from implicit feedback. UAI. Niu, F. et al. (2011). Hogwild! NIPS. "softmax": Koren, Y. (2008).
    Factorization meets the neighborhood. KDD (states from histories). Bengio, Y., & Senecal, J.-S.
    (2008). Adaptive importance sampling to accelerate training of a neural probabilistic language
    model. IEEE Trans. Neural Networks 19(4). Yi, X. et al. (2019). Sampling-bias-corrected neural
    modeling for large corpus item recommendations. RecSys. Duchi, J. et al. (2011). Adaptive
    subgradient methods for online learning and stochastic optimization. JMLR 12. Herbster, M., &
    Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32(2).

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> X, y = make_checkerboard(20, 20, return_X_y=True)
    >>> model = IncrementalMFRecommender(n_factors=4, random_state=0).fit(X, y)
    >>> items, scores = model.recommend([0, 1], n_recommendations=1)
    >>> model.partial_fit([[99, 0]], [1]).n_users_
    21
    """

    _FIXED = (
        *FactorizationMixin._FIXED,
        "loss",
        "habit_half_life",
        "history_half_life",
        "popularity_weight",
    )
    _TAGS = RecommenderTags(
        predicts="feedback",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's factors and bias",
        keeps="tables, seen items, `replay_size` events",
        splits_fit=True,
        learns="ratings, shares (0 to 1) or positives: biases, factors, context",
    )
    _parameter_constraints: ClassVar[dict] = {
        **FactorizationMixin._parameter_constraints,
        "loss": [StrOptions({"squared_error", "log_loss", "bpr", "softmax"})],
        "habit_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "popularity_weight": [Interval(Real, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        n_factors: int = 64,
        loss: str = "squared_error",
        solver: str = "sgd",
        learning_rate: float | None = None,
        reg: float | None = None,
        max_epochs: int | None = None,
        half_life: float | None = None,
        replay_size: int = 0,
        habit_half_life: float | None = None,
        history_half_life: float | None = None,
        popularity_weight: float | None = None,
        drift: str | None = None,
        training: FineTuning | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.loss = loss
        self.solver = solver
        self.learning_rate = learning_rate
        self.reg = reg
        self.max_epochs = max_epochs
        self.half_life = half_life
        self.replay_size = replay_size
        self.habit_half_life = habit_half_life
        self.history_half_life = history_half_life
        self.popularity_weight = popularity_weight
        self.drift = drift
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> IncrementalMFRecommender:
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp`` and numeric context; by
            name in a frame, by position in an array.
        y : array-like of shape (n,), default=None
            Feedback. None means that every row is a positive (1).
        sample_weight : array-like of shape (n,), default=None
            Weights of rows; they scale the steps.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> IncrementalMFRecommender:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing. Rows of
        a ``batch_id`` (a string or an integer, such as a file name) are learned once.

        Returns
        -------
        self : object
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def partial_fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Predict each row, then learn it, row by row: the prequential loop in one call.

        Parameters are those of `fit`. The prediction of a row does not use the row itself or later
        rows. With ``solver="sgd"`` it is one compiled pass. An unfitted estimator learns each row
        once. Rows of weight 0 are predicted, but not learned.

        Returns
        -------
        y_pred : ndarray of shape (n,), float64
            Prediction of each row just before it was learned. For known ids it equals `predict` at
            that time.
        """
        self._validate_params()
        return self._update(X, y, sample_weight, Call(predict=True))

    @available_if(_adapts)
    def adapt(self, X: Any, y: Any = None, sample_weight: Any = None) -> IncrementalMFRecommender:
        """Adapt users to their events by ridge regression on the factors of the items.

        Only the users in ``X``, and items that were unknown before, change. Known items and all
        other known users keep every bit. It exists for ``loss="squared_error"`` and ``"log_loss"``.
        With "softmax", pass ``history`` to `recommend`.

        Parameters are those of `fit`.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.

        Notes
        -----
        For each user, adapt minimizes ``sum_e w_e (r_e - b - p . q_e)^2 + 0.02 (n + m) |p - p0|^2 +
        5 |p - p0|^2 + (0.02 n + 5 + m) (b - b0)^2``, where r_e is what mean, item bias and context
        leave of the feedback ("log_loss": ``4 (y - probability)``), n the weight of the events, m
        that of earlier events, and (p0, b0) the values so far, or those of an unknown user. The
        penalty of ``p`` is in units of the standard deviation of ``y``. Then, new items are fitted
        to their users. The order of the rows does not matter. The constants are the best found on
        new users of MovieLens 1M; ``reg`` does not change them. Events are not stored
        (``replay_size``).

        For new users of MovieLens 1M, RMSE after 1, 3, 5 and 10 random ratings is .986, .968, .955
        and .933, as with `partial_fit` (.986, .967, .954, .933), which changes the items as well
        (a tenth of the users is new; 10 other random ratings of each; three seeds). It is the
        weaker way to adapt: point estimates of item factors do not say how uncertain they are.
        `BayesianMFRecommender` accounts for it.
        """
        check_is_fitted(self)
        self._update(X, y, sample_weight, Call(weights=False, adapt=True))
        return self

    @available_if(_lists_in_passes)
    def partial_fit_recommend(
        self, X: Any, y: Any = None, *, n_recommendations: int = 10, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """List items for each row's user, then learn the row: a stream of lists in one call.

        One compiled pass does what calls of `recommend` and `partial_fit_predict` do row by row.
        It needs ``loss="softmax"`` without ``habit_half_life``. Rows are learned in the order of
        the table, so sort them by time. An unfitted estimator starts from nothing, and its first
        lists are empty.

        Parameters
        ----------
        X, y : as for `fit`
        n_recommendations : int, default=10
            Items per list, at least 1.
        exclude_seen : bool, default=True
            Leave out the items that the user interacted with before the row.

        Returns
        -------
        items : ndarray of shape (n, n_recommendations), object
            Item ids, best first; None where a user has fewer items left.
        y_pred : ndarray of shape (n,), float64
            Score of the item of each row just before it was learned, as from
            `partial_fit_predict`. It only orders items.
        """
        self._validate_params()
        check_length("n_recommendations", n_recommendations)
        check_flag("exclude_seen", exclude_seen)
        listing = Listing(n_recommendations, bool(exclude_seen))
        predictions = self._update(X, y, None, Call(predict=True, listing=listing))
        found = listing.lists >= 0
        items = np.full(found.shape, None, object)
        items[found] = self._model.items.decode(listing.lists[found])
        return items, predictions

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row: a rating, a share or a ranking score.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        return self._predict(X)

    # ------------------------------------------------------------------ private

    def _check(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Interactions:
        events = super()._check(X, y, sample_weight, reset=reset)
        if events.feedback is not None and self.loss == "log_loss":
            learned = np.asarray(events.learned().feedback)
            outside = int(((learned < 0) | (learned > 1)).sum())
            if outside:
                raise ValueError(
                    f"y: {outside} of {len(events)} rows lie outside 0 to 1, which "
                    "loss='log_loss' needs; rescale y (for example y >= 4) or change the loss."
                )
        return events

    def _check_loss(self) -> None:
        """Refuse parameters that the loss does not read."""
        loss, softmax = self.loss, self.loss == "softmax"
        if self.habit_half_life is not None and loss not in ("bpr", "softmax"):
            raise ValueError(
                "habit_half_life: only loss='bpr' and loss='softmax' add habits to their scores; "
                f"loss is {loss!r}."
            )
        for name in ("history_half_life", "popularity_weight"):
            if getattr(self, name) is not None and not softmax:
                raise ValueError(f"{name}: only loss='softmax' reads it; loss is {loss!r}.")
        if self.drift is not None and loss in ("bpr", "softmax"):
            raise ValueError(
                "drift='follow' needs loss='squared_error' or 'log_loss', whose steps get smaller "
                f"with the events of an id; loss is {loss!r}, which has its own rates."
            )
        if softmax and self.solver != "sgd":
            raise ValueError(f"loss='softmax' needs solver='sgd'; solver is {self.solver!r}.")
        if softmax and self.replay_size:
            raise ValueError(
                f"replay_size={self.replay_size}: loss='softmax' stores no rows to rehearse; set "
                "it to 0."
            )

    def _settings(self) -> FactorizationSettings:
        """Check combinations of parameters, and return the settings of the model."""
        self._check_loss()
        settings = self._solver_settings(loss=self.loss, habit_half_life=self.habit_half_life)
        if self.loss != "softmax":
            return settings
        return SoftmaxFactorizationSettings(
            **vars(settings),
            history_half_life=self.history_half_life,
            popularity_weight=self.popularity_weight,
        )

    def __recommender_tags__(self) -> RecommenderTags:
        if self.loss == "softmax":
            order = () if self.history_half_life is None else ("order",)
            return replace(
                self._TAGS, predicts="order", reads=("time", *order), adapts="", splits_fit=False
            )
        predicts = {"squared_error": "feedback", "log_loss": "probability", "bpr": "order"}
        fitted = self._fixed if self.__sklearn_is_fitted__() else {}
        loss = fitted.get("loss", self.loss)
        adapts = "" if loss == "bpr" else self._TAGS.adapts
        return replace(self._TAGS, predicts=predicts[loss], adapts=adapts)
