"""One fit by several processes: on this machine, or wherever torchrun has started them."""

from __future__ import annotations

import os
from concurrent.futures.process import BrokenProcessPool
from numbers import Integral
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.parallel import Parallel, delayed

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.processes import training_together
from sklearn_recft.tags import recommender_tags

Recommender = TypeVar("Recommender", bound=RecommenderMixin)

# About 30 years, which torch can count; it excludes NaN as well.
_LONGEST = 1e9
# Calls of several threads share the processes: two fits at once could each wait for one of them.
_STARTING = Lock()


def fit_distributed(
    recommender: Recommender,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    n_processes: int | None = None,
    timeout: float = 1800.0,
    **fit_params: Any,
) -> Recommender:
    """Fit a recommender by several processes, each of which trains on a part of the rows.

    With ``n_processes``, this call starts them on this machine, and the caller gets the fitted
    recommender. Started by ``torchrun``, a script calls it with the same arguments in each process,
    on one or several machines. Then each gets the same recommender, and process 0 may save it:

    .. code-block:: python

       model = fit_distributed(IncrementalMFRecommender(random_state=0), X, y)
       if int(os.environ.get("RANK", 0)) == 0:
           model.save("model")

    ``torchrun --nproc-per-node=2 script.py`` runs it by two processes, and ``python script.py`` by
    one, which is a plain ``fit``.

    Each process reads all rows and keeps the whole model. What is split is the training:

    * Nets (`RealtimeTransformerRecommender`, `DecayBertRecommender`, `IncrementalDCNRecommender`,
      `IncrementalDCNClassifier`, and the factorizations with the solver "adam"): each process takes
      its share of the rows of every batch. The gradients are averaged before each step, weighted by
      these shares. So the result differs from that of `fit` by dropout, negatives and rounding
      alone.
    * `IncrementalDCNRecommender` and `IncrementalDCNClassifier`: from 500,000 rows on, batches are
      twice as large as those of `fit`. With two targets, the online features have two
      factorizations, which different processes learn.
    * Factorizations with the solver "sgd": each process learns the rows of its users, chosen by a
      hash. After each pass, the row of an item moves by the sum of its moves in all processes. The
      sum is damped towards their mean for items with many events.

    Parameters
    ----------
    recommender : recommender
        Parameters; it is not changed.
    X : table of events of shape (n, n_columns)
    y : array-like of shape (n,), default=None
    sample_weight : array-like of shape (n,), default=None
    n_processes : int, default=None
        Processes to start on this machine. None uses those of ``torchrun``, and without it one.
    timeout : float, default=1800.0
        Seconds to wait for another process, in each exchange, at most 1e9. A longer pause is an
        error.
    **fit_params : dict
        Further arguments of ``fit``, such as ``items``.

    Returns
    -------
    recommender : object
        A new, fitted recommender. It can be saved and learns further events like any other.

    Raises
    ------
    TypeError
        If this is no recommender of this package.
    ValueError
        If the training of the recommender cannot be split, if ``n_processes`` contradicts
        ``torchrun``, and what ``fit`` raises.
    RuntimeError
        In all processes if one fails, stops, does not answer within ``timeout``, or has other rows
        or parameters.

    See Also
    --------
    fit_partitions : Fit the parts of a log separately, and merge the models exactly.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.scale import fit_distributed
    >>> X, y = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]], [5.0, 4.0, 1.0]
    >>> model = fit_distributed(IncrementalMFRecommender(n_factors=2, random_state=0), X, y)
    >>> model.n_users_, model.n_items_
    (2, 2)
    """
    fresh = _checked(recommender)
    _check_timeout(timeout)
    arguments = (X, y) if sample_weight is None else (X, y, sample_weight)
    launched = _torchrun_size()
    if n_processes is not None:
        check_scalar(n_processes, "n_processes", Integral, min_val=1)
    if launched is None:
        if n_processes in (None, 1):
            return _fit(fresh, arguments, fit_params)
        return _start(fresh, arguments, fit_params, int(n_processes or 1), timeout)
    if n_processes not in (None, launched):
        raise ValueError(
            f"n_processes={n_processes}: torchrun has started {launched} processes; leave it out."
        )
    if launched == 1:
        return _fit(fresh, arguments, fit_params)
    from sklearn_recft.training import torch_processes  # loads torch

    with torch_processes(timeout) as processes:
        return _fit_together(fresh, arguments, fit_params, processes)


def _check_timeout(timeout: Any) -> None:
    """Refuse what is no number of seconds, NaN and infinity among them."""
    check_scalar(timeout, "timeout", (int, float))
    if not 0 < timeout <= _LONGEST:
        raise ValueError(
            f"timeout={timeout}: give seconds above 0, at most {_LONGEST:g} (about 30 years)."
        )


def _checked(recommender: Recommender) -> Recommender:
    """Return a clone of a recommender whose training can be split."""
    if not isinstance(recommender, RecommenderMixin):
        raise TypeError(
            f"recommender is a {type(recommender).__name__}; give a recommender of this package. "
            "Of a pipeline, give the last step, and transform the rows first."
        )
    if not recommender_tags(recommender).splits_fit:
        raise ValueError(
            f"fit_distributed: the fit of {recommender!r} cannot be split. Nets and factorizations "
            "can (but not with loss='softmax'); of models of sums, fit_partitions merges those of "
            "parts of the log."
        )
    fresh: Recommender = clone(recommender)
    return fresh


def _torchrun_size() -> int | None:
    """Return the number of processes that torchrun has started, or None."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return int(os.environ["WORLD_SIZE"])


def _fit(recommender: Recommender, arguments: tuple[Any, ...], more: dict[str, Any]) -> Recommender:
    fitted: Recommender = recommender.fit(*arguments, **more)  # type: ignore[attr-defined]
    return fitted


def _fit_together(
    recommender: Recommender, arguments: tuple[Any, ...], more: dict[str, Any], processes: Any
) -> Recommender:
    """Fit with a seed that all processes share; only process 0 shows progress."""
    given = recommender.get_params(deep=False)  # type: ignore[attr-defined]
    ours: dict[str, Any] = {}
    if not isinstance(given["random_state"], Integral):
        drawn = check_random_state(given["random_state"]).randint(np.iinfo(np.int32).max)
        ours["random_state"] = processes.of_first(int(drawn))
    if processes.rank and given.get("verbose"):
        ours["verbose"] = 0
    recommender.set_params(**ours)
    with training_together(processes):
        _fit(recommender, arguments, more)
    return recommender.set_params(**{name: given[name] for name in ours})


def _start(
    recommender: Recommender,
    arguments: tuple[Any, ...],
    more: dict[str, Any],
    size: int,
    timeout: float,
) -> Recommender:
    """Fit by new processes of this machine; raise the error of the first that fails by itself."""
    from sklearn_recft.training import ProcessesError, store_for

    store = store_for(None, timeout)
    address, caller = ("127.0.0.1", store.port), os.getpid()
    run = Parallel(n_jobs=size, backend="loky", batch_size=1, pre_dispatch="all")
    try:
        with _STARTING:
            outcomes = run(
                delayed(_work)(recommender, arguments, more, address, (rank, size, caller), timeout)
                for rank in range(size)
            )
    except BrokenProcessPool as error:
        raise ProcessesError(
            "fit_distributed: a process was stopped from outside, perhaps for lack of memory; the "
            "others were stopped too."
        ) from error
    failed = [found for found in outcomes if isinstance(found, Exception)]
    if failed:
        raise next((e for e in failed if not isinstance(e, ProcessesError)), failed[0])
    fitted: Recommender = outcomes[0]
    return fitted


def _work(
    recommender: Recommender,
    arguments: tuple[Any, ...],
    more: dict[str, Any],
    address: tuple[str, int],
    place: tuple[int, int, int],
    timeout: float,
) -> Any:
    """Fit as one of several processes; return the recommender of process 0, or the error."""
    from sklearn_recft.training import store_for, torch_processes

    rank, size, caller = place
    if os.getpid() == caller:  # one after the other, each would wait for the next
        return ValueError(
            f"n_processes={size}: joblib starts no processes here, since this is a thread or a "
            "daemon of other parallel work, or JOBLIB_MULTIPROCESSING=0 is set. Call "
            "fit_distributed outside of it, or start the script by torchrun."
        )
    try:
        store = store_for(address, timeout)
        with torch_processes(timeout, store=store, rank=rank, size=size) as processes:
            fitted = _fit_together(recommender, arguments, more, processes)
    except Exception as error:
        return error
    return fitted if rank == 0 else None
