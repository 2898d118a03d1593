"""`FineTuning`: how a net is trained, as an object whose options can be set and searched."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft.training._policy import Policy

# Options that are learning-rate factors of parameter groups.
GROUP_RATES = {
    "backbone_rate": "backbone",
    "decay_rate": "decay",
    "embedding_rate": "embedding",
}


class FineTuning(BaseEstimator):
    """Set how a neural recommender is trained: learning rates, schedule, early stopping.

    Pass it as ``training=FineTuning(...)``. Every option is None by default, which means the
    estimator's own measured default. The options of an estimator can be searched by name, for
    example with ``GridSearchCV(model, {"training__learning_rate": [0.001, 0.003]})``.

    Training uses AdamW [1]_ (`IncrementalMFRecommender`: Adam, unless an option here asks for
    more). Defaults are listed below for `DecayBertRecommender` ("DecayBert"),
    `RealtimeTransformerRecommender` ("Realtime"), `IncrementalDCNRecommender` ("DCN") and
    `IncrementalMFRecommender` with ``solver="adam"`` ("MF"). An option that an estimator does not
    list cannot be set for it: `fit` raises a ValueError.

    Parameters
    ----------
    learning_rate : float, default=None
        Learning rate. DecayBert: 0.002; Realtime: 0.002; DCN: 0.001. MF has a parameter of its own,
        ``learning_rate``.
    backbone_rate : float, default=None
        Factor of the learning rate for the text encoder, where it is trained. 0.01 at a learning
        rate of 0.002 is 2e-5, as BERT is usually fine-tuned [2]_. DecayBert: 0.01.
    decay_rate : float, default=None
        Factor of the learning rate for the time-decay rates. DecayBert: 5; Realtime: 5. 0 keeps
        the initial half-lives.
    embedding_rate : float, default=None
        Factor of the learning rate for item embeddings, and of DCN for all embeddings. DecayBert:
        10; Realtime: 1; DCN: 10. It has no effect where items have no embeddings.
    weight_decay : float, default=None
        Decoupled weight decay [1]_ of all parameters except biases, one-dimensional parameters
        and time-decay rates. DecayBert: 0.01; Realtime: 0; DCN: 1e-5, and 0 for embeddings
        of ids; MF: 0.
    warmup : float, default=None
        Fraction of the steps of a fit, from 0 to 1, in which the learning rate rises linearly.
        DecayBert: 0.1; Realtime: 0.05; DCN: 0; MF: 0.
    schedule : {"linear", "constant"}, default=None
        Learning rate after the warm-up: it falls linearly to 0, or stays constant. DecayBert:
        "linear"; Realtime: "linear"; DCN: "linear"; MF: "constant".
    clip : float, default=None
        Largest norm of the gradient of a step; ``inf`` switches clipping off. DecayBert: 1;
        Realtime: 1; MF: inf.
    accumulate : int, default=None
        Number of batches whose mean gradient makes one step. DecayBert: 1; Realtime: 1; DCN: 1;
        MF: 1.
    bf16 : bool, default=None
        Train in bfloat16 by autocast. Predictions are always in float32. DecayBert and Realtime:
        True on CUDA devices that support it, else False; MF: False.
    adversarial : float, default=None
        If positive, every batch is also trained on item embeddings that are moved by this norm
        along their gradient [3]_. DecayBert: 0 (needs item embeddings, that is, no texts);
        Realtime: 0.
    patience : int, default=None
        Stop `fit` after this number of epochs without an improvement on held-out rows, and
        restore the weights of the best epoch. The newest rows are held out. Realtime measures
        NDCG@10, the others the loss. `partial_fit` trains on every row. DecayBert, Realtime,
        DCN and MF: no early stopping.
    validation_fraction : float, default=None
        Fraction of the rows, the newest ones, held out for ``patience``. DecayBert: 0.1;
        Realtime: 0.1; DCN: 0.1; MF: 0.1.
    update_rate : float, default=None
        Constant factor of the learning rate in `partial_fit`; 1 is the full learning rate, and 0
        leaves the net as it is. DecayBert: 0; Realtime: 0.1; DCN: 1/3; MF: 1.
    update_epochs : int, default=None
        Number of epochs in `partial_fit`. DecayBert: 1; Realtime: 3; DCN: 1;
        MF: 1.
    freeze_blocks : int or "all", default=None
        Number of transformer blocks, counted from the lowest, that `partial_fit` does not train.
        Of DCN: number of layers, cross layers first. Realtime: 0; DCN: 0.
    lora_rank : int, default=None
        If positive, low-rank adapters [4]_ of this rank are trained in place of the weights of
        the text encoder. DecayBert: 0.
    average : float, default=None
        If positive, `fit` ends with the mean of the weights after each of its last steps [5]_, this
        fraction of all, up to 1. Set ``schedule="constant"`` with it, because the weights hardly
        move at the end of a falling learning rate. It excludes ``patience``. DecayBert: 0;
        Realtime: 0.

    Notes
    -----
    A learning-rate scheduler of yours, `skorch.callbacks.LRScheduler` in
    ``net_params["callbacks"]``, replaces ``warmup`` and ``schedule``. In `partial_fit` skorch
    continues your schedule, and ``update_rate`` scales the learning rates that it sets.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [2] Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language
       understanding", NAACL 2019, appendix A.3.
    .. [3] Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text
       classification", ICLR 2017.
    .. [4] Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022.
    .. [5] Izmailov et al., "Averaging weights leads to wider optima and better generalization",
       UAI 2018.

    Examples
    --------
    >>> from sklearn_recft import DecayBertRecommender, FineTuning
    >>> model = DecayBertRecommender(None, training=FineTuning(learning_rate=0.001))
    >>> model.set_params(training__warmup=0.2).training
    FineTuning(learning_rate=0.001, warmup=0.2)
    """

    _parameter_constraints: ClassVar[dict] = {
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "backbone_rate": [Interval(Real, 0, None, closed="left"), None],
        "decay_rate": [Interval(Real, 0, None, closed="left"), None],
        "embedding_rate": [Interval(Real, 0, None, closed="left"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "warmup": [Interval(Real, 0, 1, closed="both"), None],
        "schedule": [StrOptions({"linear", "constant"}), None],
        "clip": [Interval(Real, 0, math.inf, closed="right"), None],
        "accumulate": [Interval(Integral, 1, None, closed="left"), None],
        "bf16": ["boolean", None],
        "adversarial": [Interval(Real, 0, None, closed="left"), None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "update_rate": [Interval(Real, 0, None, closed="left"), None],
        "update_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "freeze_blocks": [
            Interval(Integral, 0, None, closed="left"),
            StrOptions({"all"}),
            None,
        ],
        "lora_rank": [Interval(Integral, 0, None, closed="left"), None],
        "average": [Interval(Real, 0, 1, closed="both"), None],
    }

    def __init__(
        self,
        learning_rate: float | None = None,
        backbone_rate: float | None = None,
        decay_rate: float | None = None,
        embedding_rate: float | None = None,
        weight_decay: float | None = None,
        warmup: float | None = None,
        schedule: str | None = None,
        clip: float | None = None,
        accumulate: int | None = None,
        bf16: bool | None = None,
        adversarial: float | None = None,
        patience: int | None = None,
        validation_fraction: float | None = None,
        update_rate: float | None = None,
        update_epochs: int | None = None,
        freeze_blocks: int | str | None = None,
        lora_rank: int | None = None,
        average: float | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.backbone_rate = backbone_rate
        self.decay_rate = decay_rate
        self.embedding_rate = embedding_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.schedule = schedule
        self.clip = clip
        self.accumulate = accumulate
        self.bf16 = bf16
        self.adversarial = adversarial
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.update_rate = update_rate
        self.update_epochs = update_epochs
        self.freeze_blocks = freeze_blocks
        self.lora_rank = lora_rank
        self.average = average

    def resolve(self, defaults: Policy, supported: tuple[str, ...]) -> Policy:
        """Validate the options and merge them into an estimator's defaults.

        Parameters
        ----------
        defaults : Policy
        supported : tuple of str
            Names of the options that the estimator has.

        Returns
        -------
        policy : Policy

        Raises
        ------
        ValueError
            For a value out of range, an option that the estimator does not have, or options that
            exclude each other.
        """
        options = ((name, getattr(self, name)) for name in self._parameter_constraints)
        given = {name: value for name, value in options if value is not None}
        if given:  # None is valid for every option, and the check takes longer than all else here
            self._validate_params()
        foreign = [name for name in given if name not in supported]
        if foreign:
            raise ValueError(
                f"training: this estimator has no option {', '.join(foreign)}; its options of "
                f"FineTuning are {', '.join(supported)}."
            )
        rates = {group: given.pop(name) for name, group in GROUP_RATES.items() if name in given}
        changes: dict[str, Any] = {**given, "rates": {**defaults.rates, **rates}}
        policy = replace(defaults, **changes)
        if policy.average and policy.patience is not None:
            raise ValueError(
                f"training: average={policy.average!r} and patience={policy.patience!r} exclude "
                "each other: one ends with mean weights, the other with those of the best epoch. "
                "Leave one of them out."
            )
        return policy
