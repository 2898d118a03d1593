"""`Trainer`: one call that trains a net for a number of epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset

from sklearn_recft.parallel import torch_threads
from sklearn_recft.processes import current_processes
from sklearn_recft.training import _skorch
from sklearn_recft.training._batches import Collate, Columns
from sklearn_recft.training._net import grow_optimizer
from sklearn_recft.training._policy import Policy
from sklearn_recft.training._split import split_batches
from sklearn_recft.training._tuned import _TunedNet


@dataclass(frozen=True)
class Trainer:
    """Train a net on rows in time order, without global side effects.

    Parameters
    ----------
    epochs, seed : int
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    n_negatives : int, default=0
        Number of item codes to draw the argument ``negative`` from; 0 draws none.
    collate : callable, default=None
        Called with each batch of the columns, as tensors on the CPU; returns the arguments of
        the module's ``forward`` (see `Batches`). The net does not keep it.
    update : bool, default=False
        Whether this is an update of a fitted net: its policy then sets another learning rate
        and holds out no rows.
    n_targets : int, default=None
        In an update, the number of targets in an epoch, in units of the batch size. If they fill
        only a part of the batches, the ``update_rate`` of the policy decreases in proportion. None
        means full batches.
    scorer : Scorer, default=None
        Validation metric, computed after each epoch. With a policy's ``patience`` it decides
        when a fit stops and which weights are restored, and no rows are held out: the caller
        has held out what the metric needs. The net does not keep it.
    policy : Policy, default=None
        Policy of this call in place of that of the net, which must not be a plain one.
    batch_size : int, default=None
        Batch size of this call in place of that of the net.

    Examples
    --------
    ``Trainer(epochs=3, seed=0).fit(net, columns, target)``
    """

    epochs: int
    seed: int
    n_threads: int = 1
    n_negatives: int = 0
    collate: Collate | None = None
    update: bool = False
    n_targets: int | None = None
    scorer: _skorch.Scorer | None = None
    policy: Policy | None = None
    batch_size: int | None = None

    def fit(self, net: NeuralNet, columns: Columns, target: np.ndarray) -> None:
        """Train ``net``, and leave it in evaluation mode.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net made by `make_net`.
        columns : dict of arrays of shape (n, ...)
            Named after the arguments of the module's ``forward``, or after what ``collate``
            reads.
        target : ndarray of shape (n, 2), float32
            Value and weight of each row, or the target of another criterion.
        """
        _skorch.set_batch_option(net, "n_negatives", self.n_negatives)
        grow_optimizer(net)
        processes, trained = current_processes(), net.module_.parameters()
        if processes is not None:
            processes.check_same("rows or weights", *columns.values(), target, *trained)
        with self._prepared(net):
            # skorch's own partial_fit would swallow a KeyboardInterrupt.
            dataset = Dataset(columns, target)
            net.notify("on_train_begin", X=dataset, y=target)
            try:
                net.fit_loop(dataset, None, epochs=self.epochs)
            except KeyboardInterrupt:
                if not _skorch.has_stopped_early(net):
                    raise
            finally:
                net.module_.eval()
            net.notify("on_train_end", X=dataset, y=target)
            _skorch.drop_best_weights(net)
        if processes is not None:
            processes.check_same("weights after training", *net.module_.parameters())
        _skorch.keep_last_epochs(net, self.epochs)

    @contextmanager
    def _prepared(self, net: NeuralNet) -> Iterator[None]:
        """Set up threads, generators, batches, metric and steps for this call only."""
        with ExitStack() as stack:
            stack.enter_context(torch_threads(self.n_threads))
            processes = current_processes()
            rank = 0 if processes is None else processes.rank  # each draws its own dropout
            stack.enter_context(_seeded(net, self.seed + rank))
            stack.enter_context(torch.enable_grad())  # even if the caller has disabled gradients
            if self.collate is not None:
                stack.enter_context(_skorch.batch_options(net, collate=self.collate))
            if self.policy is not None and isinstance(net, _TunedNet):
                stack.enter_context(net.trained_by(self.policy))
            if self.batch_size is not None:
                stack.enter_context(_skorch.batch_options(net, batch_size=self.batch_size))
            patience = net.policy.patience if isinstance(net, _TunedNet) else None
            if self.scorer is not None:
                stack.enter_context(_skorch.scored(net, self.scorer, patience))
            stack.enter_context(_skorch.time_left(net, self.epochs))
            if processes is not None:
                stack.enter_context(split_batches(net, processes, self.seed))
            if isinstance(net, _TunedNet):
                planned = net.one_call(self.epochs, update=self.update, n_targets=self.n_targets)
                stack.enter_context(planned)
            yield


@contextmanager
def _seeded(net: NeuralNet, seed: int) -> Iterator[None]:
    """Seed torch's generators within the block, and restore their state afterwards."""
    devices = {p.device for p in net.module_.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        # Not torch.manual_seed, which would also seed devices whose state is not restored.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
