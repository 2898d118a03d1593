"""Matrix factorization that keeps learning: `IncrementalMFRecommender`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.columns import fade
from sklearn_recft.estimators import _adam, _sgd
from sklearn_recft.history import Reservoir
from sklearn_recft.interactions import Interactions, context_of_queries
from sklearn_recft.modules import MatrixFactorization
from sklearn_recft.ranking import TileScorer
from sklearn_recft.training import FineTuning, Policy, resolve_training

# How a model learns: each has begin, fit and update, and its own best settings.
_SOLVERS = {"sgd": _sgd, "adam": _adam}


class IncrementalMFRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Biased matrix factorization, fitted once and kept fresh event by event.

    ``y_hat = link(mu + b_u + b_i + p_u . q_i + w . context)``, the link being the identity
    (``"squared_error"``: ratings, counts), the logistic function (``"log_loss"``: clicks and
    likes in 0 to 1), or a ranking score (``"bpr"``: every row is a positive).

    Parameters
    ----------
    n_factors : int, default=64
        Length of ``p_u`` and ``q_i``.
    loss : {"squared_error", "log_loss", "bpr"}, default="squared_error"
        What is minimised. With ``"bpr"``, ``y`` may be None; rows with ``y <= 0`` are left out.
    solver : {"sgd", "adam"}, default="sgd"
        "sgd": compiled stochastic gradient descent on the CPU. "adam": a skorch net, on any
        device, open to ``net_params``; slower, and a little less accurate.
    learning_rate : float, default=None
        None is the best measured for the loss and the solver (for ratings 0.045 with "sgd").
    reg : float, default=None
        L2 penalty per event; None likewise (for ratings 0.045).
    max_epochs : int, default=30
        Passes over the data in `fit`.
    half_life : float, default=None
        Days before the newest event of a call at which an event weighs half. None: all weigh
        the same. With "bpr" the popularity inside the model fades, not the events.
    replay_size : int, default=0
        Past events kept (a uniform sample) and rehearsed beside the new ones, one for one, in
        `partial_fit`.
    training : FineTuning, default=None
        How the net of ``solver="adam"`` is trained: schedule, clipping, early stopping and more.
        None is ``FineTuning()``, the defaults of this estimator. With "sgd" it must be None.
    n_jobs : int, default=None
        Number of threads. None is one, and reproducible to the bit; with more, "sgd" runs
        without locks.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 shows progress.
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet` for ``solver="adam"``, such as ``batch_size``,
        ``device``, ``optimizer`` or ``callbacks``; not with "sgd". With an ``EarlyStopping``
        callback the newest tenth of the rows is the validation set. A learning-rate scheduler
        among the callbacks replaces the warm-up and the schedule of ``training``.

    Attributes
    ----------
    module_ : torch.nn.Module
        The model: factor and bias tables with a row per code.
    net_ : skorch.NeuralNet
        The net around ``module_``, with ``solver="adam"`` only.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    `partial_fit` is a warm start, not exact. New ids start from a ridge regression on the other
    side's factors ("bpr": from the mean of the newest users); then, with "sgd", each row is
    learned once, by steps that shrink with the number of events its user and item have had
    ("bpr": by slow constant ones), with "adam" for one epoch. It keeps ``replay_size`` past
    events, each user's distinct items and one row of numbers per id. An unknown id is taken to
    be the mean of the 300 ids met last. Predictions of ratings stay within the range of ``y``
    seen.

    The settings are the best found on MovieLens 100K and 1M, for "bpr" also on The Complete
    Journey and Online Retail (see ``benchmarks``).

    References
    ----------
    Koren, Y., Bell, R., & Volinsky, C. (2009). Matrix factorization techniques for recommender
    systems. IEEE Computer 42(8). Rendle, S. et al. (2009). BPR: Bayesian personalized ranking
    from implicit feedback. UAI. Niu, F. et al. (2011). Hogwild! NIPS.

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

    _parameter_constraints: ClassVar[dict] = {
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions({"squared_error", "log_loss", "bpr"})],
        "solver": [StrOptions({"sgd", "adam"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "reg": [Interval(Real, 0, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "training": [FineTuning, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "net_params": [dict, None],
    }

    def __init__(
        self,
        n_factors: int = 64,
        loss: str = "squared_error",
        solver: str = "sgd",
        learning_rate: float | None = None,
        reg: float | None = None,
        max_epochs: int = 30,
        half_life: float | None = None,
        replay_size: int = 0,
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
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> IncrementalMFRecommender:
        """Learn from nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp`` and numeric context; by
            name in a frame, by position in an array.
        y : array-like of shape (n,), default=None
            Feedback. None: every row is a positive (1).
        sample_weight : array-like of shape (n,), default=None
            Scales each row's steps.

        Returns
        -------
        self : object
        """
        self._anew(X, y, sample_weight, type(self)._learn_all)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> IncrementalMFRecommender:
        """Learn further rows without forgetting; on an unfitted estimator the same as `fit`.

        Parameters are those of `fit`. A call that fails or is interrupted leaves no trace.

        Returns
        -------
        self : object
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        self._update(self._check(X, y, sample_weight, reset=False))
        return self

    def partial_fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """Predict each row, then learn it, row after row: the prequential loop in one call.

        Parameters are those of `fit`. No row is predicted with knowledge of itself or of any
        later one. With ``solver="sgd"`` it is one compiled pass; an unfitted estimator starts
        from nothing and learns each row once.

        Returns
        -------
        y_pred : ndarray of shape (n,), float64
            Prediction of each row just before it was learned; for ids met before, what
            `predict` would have said then.
        """
        if not self.__sklearn_is_fitted__():
            self._validate_params()
            return self._anew(X, y, sample_weight, type(self)._follow)
        return self._follow(self._check(X, y, sample_weight, reset=False))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row: a rating, a probability or ("bpr") a score.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        events = self._check_rows(X)
        users, items = self._users.encode(events.user_ids), self._items.encode(events.item_ids)
        return self._link(self.module_.score(users, items, events.context))

    @property
    def module_(self) -> MatrixFactorization:
        """The model: a row of factors, a bias and a count for each id."""
        if "net_" in vars(self):
            return self.net_.module_
        if "_module" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} instance is not fitted yet.")
        return self._module

    # ------------------------------------------------------------------ private

    def _check(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Interactions:
        events = self._check_events(X, y, sample_weight, reset=reset)
        if events.feedback is not None and self.loss == "log_loss":
            outside = int(((events.feedback < 0) | (events.feedback > 1)).sum())
            if outside:
                raise ValueError(
                    f"y: {outside} of {len(events)} rows lie outside 0 to 1, which "
                    "loss='log_loss' needs; rescale y (for example y >= 4) or change the loss."
                )
        return events

    def _check_options(self) -> Policy:
        """Check what the parameters say together; return the settings of the training."""
        if self.solver == "sgd":
            for name in ("training", "net_params"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: only solver='adam' reads it; solver is 'sgd'.")
        return resolve_training(
            self.training, self.net_params, defaults=_adam.DEFAULTS, supported=_adam.OPTIONS,
            parameters=self._get_param_names(),
        )  # fmt: skip

    def _anew(self, X: Any, y: Any, sample_weight: Any, learn: Callable[..., Any]) -> Any:
        """Begin and learn on a copy, so that a failure leaves this estimator as it was."""
        fresh = copy.copy(self)
        fresh.__dict__.pop("net_", None)
        fresh._policy = fresh._check_options()
        events = fresh._check(X, y, sample_weight, reset=True)
        fresh._begin(events)
        result = learn(fresh, events)
        self.__dict__ = fresh.__dict__
        return result

    def _begin(self, events: Interactions) -> None:
        super()._begin(events)
        seed = self.random_state
        if seed is not None:
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        # Apart, so that what one thing draws does not hang on how much another has drawn: how
        # many rows follow must not change what is predicted now.
        self._rng, self._noise_rng, self._replay_rng = np.random.default_rng(seed).spawn(3)
        self._context_names = events.context_names
        # Count, mean, sum of squared deviations, least and largest of the targets.
        self._moments = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
        self._latest = -np.inf
        self._reservoir = Reservoir(self.replay_size)
        self._module = MatrixFactorization(self.n_factors, len(events.context_names))
        _SOLVERS[self.solver].begin(self)

    @property
    def _learning_rate(self) -> float:
        default = _SOLVERS[self.solver].LEARNING_RATE[self.loss]
        return default if self.learning_rate is None else self.learning_rate

    @property
    def _reg(self) -> float:
        return _SOLVERS[self.solver].REG[self.loss] if self.reg is None else self.reg

    @property
    def _scale(self) -> float:
        """Standard deviation of the targets, the unit of rates and penalties."""
        n, _, squares, _, _ = self._moments
        return float(np.sqrt(squares / n)) if squares > 0 and self.loss == "squared_error" else 1.0

    def _rows(
        self, events: Interactions, users: np.ndarray, items: np.ndarray, *, faded: bool
    ) -> dict[str, np.ndarray]:
        """Columns named after the arguments of the module and of the kernels."""
        weight = np.ones(len(events)) if events.sample_weight is None else events.sample_weight
        target = np.ones(len(events)) if events.feedback is None else events.feedback
        if self.loss == "bpr":
            weight = np.where(target > 0, weight, 0.0)
        if faded and self.half_life is not None and self.loss != "bpr":
            times = np.asarray(events.timestamps)
            weight = weight * fade(times.max() - times, self.half_life)
        return {
            "user": users.astype(np.int32),
            "item": items.astype(np.int32),
            "target": target.astype(np.float32),
            "weight": weight.astype(np.float32),
            "context": self.module_.standardise(events.context),
        }

    def _learn_all(self, events: Interactions) -> None:
        """Take stock of the targets, start the tables, run the epochs."""
        users, items = self._remember(events)
        if len(self._context_names):
            self.module_.learn_context_scale(events.context)
        rows = self._rows(events, users, items, faded=True)
        target, weight = rows["target"].astype(np.float64), rows["weight"].astype(np.float64)
        if not weight.any():
            raise ValueError("y: no row is positive, and loss='bpr' learns from positives only.")
        mean = np.average(target, weights=weight)
        squares = weight @ (target - mean) ** 2
        self._moments[:] = weight.sum(), mean, squares, target.min(), target.max()
        self.module_.grow(self.n_users_, self.n_items_)
        _SOLVERS[self.solver].fit(self, events, rows)
        self._reservoir.put(self._reservoir.slots(len(events), self._replay_rng), rows)

    def _follow(self, events: Interactions) -> np.ndarray:
        """Predict and learn row by row."""
        # Fading popularity changes every item between rows, as Adam changes everything.
        alone = self.solver == "adam" or (self.loss == "bpr" and self.half_life is not None)
        if not alone:
            return self._update(events, one_by_one=True)
        each = (events.take(np.array([row])) for row in range(len(events)))
        return np.concatenate([self._update(event, one_by_one=True) for event in each])

    def _update(self, events: Interactions, *, one_by_one: bool = False) -> np.ndarray:
        """Grow, learn and remember; whatever fails on the way is undone."""
        known = self.n_users_, self.n_items_
        with ExitStack() as undo:
            for rng in (self._rng, self._noise_rng, self._replay_rng):
                undo.callback(setattr, rng.bit_generator, "state", rng.bit_generator.state)
            undo.callback(setattr, self, "_moments", self._moments.copy())
            undo.callback(setattr, self, "_latest", self._latest)
            undo.callback(self._users.truncate, known[0])
            undo.callback(self._items.truncate, known[1])
            users = self._users.extend(events.user_ids)
            items = self._items.extend(events.item_ids)
            undo.callback(self._seen.restore, self._seen.mark(users))
            self._seen.append(users, items, self.n_users_)
            rows = self._rows(events, users, items, faded=not one_by_one)
            n_old = 0 if one_by_one else min(len(events), len(self._reservoir))
            old = self._reservoir.draw(n_old, self._replay_rng) if n_old else {}
            slots = self._reservoir.slots(len(events), self._replay_rng)
            undo.callback(self._reservoir.restore, self._reservoir.mark(slots))
            predicted = _SOLVERS[self.solver].update(
                self, undo, events, rows, old, known, one_by_one=one_by_one
            )
            self._reservoir.put(slots, rows)
            undo.pop_all()
        return predicted

    def _link(self, scores: np.ndarray) -> np.ndarray:
        if self.loss == "squared_error":
            return np.clip(scores, *self._moments[3:]) if self._moments[0] else scores
        return expit(scores) if self.loss == "log_loss" else scores

    def _tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        context = context_of_queries(queries, self._context_names)
        if context is None:
            # The average context, which stands at zero once standardised.
            context = np.tile(self.module_.context_mean.cpu().numpy(), (len(users), 1))
        return self.module_.tile_scorer(users, columns, self.module_.offset(context))
