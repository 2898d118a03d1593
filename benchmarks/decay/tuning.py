"""Measure methods of fine-tuning on DecayBertRecommender, on against off, one JSON line per run.

    python benchmarks/decay/tuning.py --backbone auto --seeds 0 1 2

The protocol is that of ``bench_decay.py --task quality``: MovieLens on the time line, a like is a
rating of 4 or more, 80 % are fitted, then each row is predicted before it is learned. Choose on
``validation_auc`` and ``validation_log_loss``; ``auc`` and ``log_loss`` are of the test tenth.
"""

import argparse
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.special import expit, logit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.params import merged
from benchmarks.common.report import row
from benchmarks.decay.augment import (
    HistoryDropout,
    Mixup,
    MovingAverage,
    Prompted,
    TokenDropout,
    without_words,
)
from benchmarks.decay.log import Log, evaluate, load, make_model
from sklearn_recft.models import _decay_network as decay_network
from sklearn_recft.text import load_encoder

N_VARIANTS = 4  # of each text, for token dropout


def predictions(log: Log, seed, backbone, callback=None, settings=None):
    """Fit one model, and return its predictions of validation and test rows."""
    callbacks = {} if callback is None else {"net_params": {"callbacks": [callback]}}
    model = make_model(backbone, seed, settings or {}, callbacks)
    X = log.columns(model.outcome)
    start = time.process_time()
    model.fit(X[: log.start], log.y[: log.start])
    seconds = time.process_time() - start
    return model.partial_fit_predict_proba(X[log.start :], log.y[log.start :]), seconds


def callbacks(log: Log, backbone, seed, methods=None):
    """Yield the methods that are callbacks, by name; the first is none."""
    yield "off", None, {}
    for probability in (0.1, 0.3):
        yield f"history dropout {probability}", HistoryDropout(probability), {}
    yield "mixup 0.2", Mixup(0.2), {}
    yield "average of the last half", None, {"schedule": "constant", "average": 0.5}
    yield "moving average 0.98", MovingAverage(0.98), {}
    wanted = methods is None or "token dropout 0.15" in methods
    if backbone not in (None, "scratch") and wanted:  # all texts are encoded four times more
        found = token_variants(log, backbone, seed, 0.15)
        yield "token dropout 0.15", TokenDropout(found), {}


def token_variants(log: Log, backbone, seed, probability):
    """Encode texts without some words, in the order of the model's items."""
    rng = np.random.default_rng(seed)
    # `fit` numbers the items by their order in the log.
    items = log.X["item_id"][: log.start].drop_duplicates()
    texts = log.catalogue.set_index("item_id")["text"].loc[items].tolist()
    encoder = load_encoder(backbone)
    variants = [without_words(texts, probability, rng) for _ in range(N_VARIANTS)]
    return np.stack([encoder.encode(some) for some in [texts, *variants]])


def one_model(log, backbone, seeds, methods):
    for seed in seeds:
        for name, callback, training in callbacks(log, backbone, seed, methods):
            if methods is None or name in methods:
                settings = {"training": training} if training else None
                found, seconds = predictions(log, seed, backbone, callback, settings)
                yield figures_of(log, name, seed, found, cpu_seconds=seconds)


def figures_of(log, name, seed, found, **facts):
    """Return the row of one run."""
    return {"model": name, "seed": seed, **evaluate(log, found), **facts}


def averages(log, backbone, seeds, methods):
    """Average the weights of the last steps at other rates and epochs, and the controls."""
    constant, half = {"schedule": "constant"}, {"schedule": "constant", "average": 0.5}
    settings = {
        "off, constant rate": {"training": constant},
        "average of the last half": {"training": half},
        "average of the last half, rate 0.004": {"training": {**half, "learning_rate": 0.004}},
        "average of the last quarter": {"training": {**half, "average": 0.25}},
        "average of the last half, 4 epochs": {"training": half, "max_epochs": 4},
        "off, 4 epochs": {"max_epochs": 4},
    }
    for seed in seeds:
        for name, changed in settings.items():
            if methods is None or name in methods:
                found, seconds = predictions(log, seed, backbone, settings=changed)
                yield figures_of(log, name, seed, found, cpu_seconds=seconds)


def ensembles(log, backbone, seeds, methods, n_members=3):
    """Average the logits of models that differ in their seed."""
    for seed in seeds:
        members = [
            predictions(log, 100 * (seed + 1) + member, backbone)[0] for member in range(n_members)
        ]
        for size in (1, n_members):
            found = expit(np.mean([logit(member) for member in members[:size]], 0))
            yield figures_of(log, f"ensemble of {size}", seed, found)


def virtual_tokens(log, backbone, seeds, methods):
    """Train the encoder on few rows: not at all, by LoRA, by a prompt, by a prefix.

    The first 1,000 rows are fitted, and the next 20,000 are validation and test.
    """
    few = SlowLog(log.name, log.X[:21_000], log.y[:21_000], log.catalogue)
    plain = decay_network.make_encoder
    small = {"max_history": 3, "max_epochs": 1, "net_params": {"batch_size": 32}}
    for seed in seeds:
        for name, kind, changed in (
            ("frozen", None, {}),
            ("LoRA, rank 4", None, {"freeze": "none", "training": {"lora_rank": 4}}),
            ("prompt, 8 tokens", "prompt", {"freeze": "none"}),
            ("prefix, 8 tokens", "prefix", {"freeze": "none"}),
        ):

            def make(*args, kind=kind, **kwargs):
                encoder = plain(*args, **kwargs)
                if kind is not None:
                    encoder.model = Prompted(encoder.model, kind)
                return encoder

            rate = {"backbone_rate": 0.1} if "freeze" in changed else {}
            changed = merged(small, {"training": rate}, changed)
            with patch.object(decay_network, "make_encoder", make):
                found, seconds = predictions(few, seed, backbone, settings=changed)
            yield figures_of(few, name, seed, found, cpu_seconds=seconds)


class SlowLog(Log):
    """A log of which 1,000 rows are fitted, for methods that train the encoder."""

    start = 1_000

    @property
    def middle(self):
        """The first row of the test part."""
        return (self.start + len(self.y)) // 2


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--methods", nargs="+", default=None, help="names of rows; default: all")
    parser.add_argument("--limit", type=int, default=None, help="first rows of the timeline alone")
    options = parser.parse_args(argv)
    log = load(options.data, options.limit)
    for task in options.task:
        for figures in TASKS[task](log, options.backbone, options.seeds, options.methods):
            row("tuning", log.name, backbone=options.backbone, **figures)


TASKS = {
    "one-model": one_model,
    "averages": averages,
    "ensemble": ensembles,
    "virtual-tokens": virtual_tokens,
}

if __name__ == "__main__":
    main()
