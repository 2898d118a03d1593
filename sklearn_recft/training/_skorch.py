"""Workarounds for missing skorch options: the only file that sets internals of a net."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler
from skorch.history import History

Callbacks = list[tuple[str, Any]]

_ITERATORS = ("iterator_train", "iterator_valid")


class Scorer(NamedTuple):
    """A validation metric that is computed after each epoch; greater is better.

    ``name`` is its column in the net's history; ``score`` is called with the module in
    evaluation mode and returns a float.
    """

    name: str
    score: Callable[[], float]


class RecordScore(Callback):
    """Compute a validation metric after each epoch and write it to the history."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.best = scorer, -math.inf

    @torch.no_grad()
    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        """Record the score, and whether it is the best of the call."""
        was_training = net.module_.training
        net.module_.eval()
        try:
            score = float(self.scorer.score())
        finally:
            net.module_.train(was_training)
        net.history.record(self.scorer.name, score)
        net.history.record(f"{self.scorer.name}_best", score > self.best)
        self.best = max(self.best, score)


class TimeLeft(Callback):
    """Write the seconds that the other epochs of a call will take to the history."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.left = epochs, epochs

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        """Record the epochs left times the mean duration of those done."""
        self.left -= 1
        done = net.history[self.left - self.epochs :, "dur"]
        net.history.record("time_left", self.left * sum(done) / len(done))


@contextmanager
def time_left(net: NeuralNet, epochs: int) -> Iterator[None]:
    """Show the time left in the table of epochs within the block, if there is a table."""
    names = [name for name, _ in net.callbacks_]
    if not net.verbose or "print_log" not in names or "epoch_timer" not in names:
        yield
        return
    place = names.index("print_log")
    added = [*net.callbacks_[:place], ("time_left", TimeLeft(epochs)), *net.callbacks_[place:]]
    with replaced(net, added, net.train_split):
        yield


@contextmanager
def batch_options(net: NeuralNet, **options: Any) -> Iterator[None]:
    """Set options of the net's iterators within the block, so that pickles do not hold them."""
    for name, value in options.items():
        set_batch_option(net, name, value)
    try:
        yield
    finally:
        for name in options:
            for parts in _ITERATORS:
                delattr(net, f"{parts}__{name}")


@contextmanager
def train_option(net: NeuralNet, **options: Any) -> Iterator[None]:
    """Set options of the net's training iterator within the block."""
    named = {f"iterator_train__{name}": value for name, value in options.items()}
    vars(net).update(named)
    try:
        yield
    finally:
        for name in named:
            delattr(net, name)


def set_batch_option(net: NeuralNet, name: str, value: Any) -> None:
    """Set an option of the net's iterators."""
    # Plain attributes: skorch's set_params refuses them once the net is initialised.
    for parts in _ITERATORS:
        setattr(net, f"{parts}__{name}", value)


@contextmanager
def replaced(net: NeuralNet, callbacks: Callbacks, train_split: Any) -> Iterator[None]:
    """Train with other callbacks and another validation split within the block."""
    before = net.callbacks_, net.train_split
    net.callbacks_, net.train_split = callbacks, train_split
    try:
        yield
    finally:
        net.callbacks_, net.train_split = before


@contextmanager
def scored(net: NeuralNet, scorer: Scorer, patience: int | None) -> Iterator[None]:
    """Compute a validation metric after each epoch; with ``patience``, stop early by it."""
    split = net.train_split
    ours = [("scorer", RecordScore(scorer)), *net.callbacks_]
    if patience is not None:  # an update removes early stopping again, see `without_stopping`
        split = None
        stop = EarlyStopping(scorer.name, patience, 0.0, lower_is_better=False, load_best=True)
        # Last, so that the other callbacks run before it stops training.
        ours = [*_without_stopping(ours), ("early_stopping", stop)]
    # Only the timer runs before the scorer: it must measure training alone.
    with replaced(net, sorted(ours, key=lambda c: not isinstance(c[1], EpochTimer)), split):
        yield


@contextmanager
def without_stopping(net: NeuralNet) -> Iterator[None]:
    """Train on every row and for all epochs within the block."""
    with replaced(net, _without_stopping(net.callbacks_), None):
        yield


def has_scheduler(net: NeuralNet) -> bool:
    """Return whether the callbacks of the net contain a learning-rate scheduler."""
    return any(isinstance(c, LRScheduler) for _, c in net.callbacks_)


def has_stopped_early(net: NeuralNet) -> bool:
    """Return whether `EarlyStopping` raised the KeyboardInterrupt that ends training."""
    return any(c.misses_ >= c.patience for c in _early_stoppings(net))


def drop_best_weights(net: NeuralNet) -> None:
    """Free the second copy of the weights that `EarlyStopping` keeps."""
    for stop in _early_stoppings(net):
        stop.best_model_weights_ = None


def keep_last_epochs(net: NeuralNet, n_epochs: int) -> None:
    """Drop older records of the history, which would grow with every call."""
    net.history_ = History(net.history_[-max(n_epochs, 1) :])


def drop_batch_records(net: NeuralNet) -> None:
    """Drop the records of all batches except the last one of each epoch."""
    for epoch in net.history_:
        del epoch["batches"][:-1]


def _early_stoppings(net: NeuralNet) -> list[EarlyStopping]:
    return [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]


def _without_stopping(callbacks: Callbacks) -> Callbacks:
    return [c for c in callbacks if not isinstance(c[1], EarlyStopping)]
