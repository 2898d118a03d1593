"""The plain recipe: fine-tune a BERT on texts of each user's behaviour.

A scikit-learn pipeline of BehaviorText, skorch's tokenizer and a skorch net over transformers'
BertForSequenceClassification. It reads the whole history again for every row, so it is slow:
within a budget of wall-clock time it trains on as many rows as it can.
"""

import time
from contextlib import contextmanager

import numpy as np
import torch
import transformers
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.hf import HuggingfacePretrainedTokenizer
from torch import nn
from transformers import AutoTokenizer, BertForSequenceClassification

from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.preprocessing import BehaviorText

WARM_UP = 0.1  # share of the budget in which steps grow to full size


class BertClassifier(nn.Module):
    """Score two classes from tokens; a batch is cut to its longest text before it is read."""

    def __init__(self, folder):
        super().__init__()
        self.bert = BertForSequenceClassification.from_pretrained(folder, num_labels=2)

    def forward(self, input_ids, attention_mask):
        longest = int(attention_mask.sum(1).max())
        tokens, mask = input_ids[:, :longest], attention_mask[:, :longest]  # (B, L)
        return self.bert(input_ids=tokens, attention_mask=mask).logits  # (B, 2)


class Budget(Callback):
    """Stop after ``seconds``; steps grow at first, then shrink to nothing by the end.

    The end is that of the seconds or of the epochs, whichever is nearer.
    """

    def __init__(self, seconds, learning_rate):
        self.seconds, self.learning_rate = seconds, learning_rate

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.n_rows_, self.planned_ = 0, net.max_epochs * len(y)
        self.start_ = time.perf_counter()

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            spent = self.spent()
            size = min((spent + 0.01) / WARM_UP, (1 - spent) / (1 - WARM_UP), 1.0)
            for group in net.optimizer_.param_groups:
                group["lr"] = self.learning_rate * max(size, 0.0)

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            self.n_rows_ += len(batch[1])
            if self.seconds_spent() >= self.seconds:
                raise KeyboardInterrupt  # skorch takes it as the end of training

    def seconds_spent(self):
        return time.perf_counter() - self.start_

    def spent(self):
        return max(self.seconds_spent() / self.seconds, self.n_rows_ / self.planned_)


@contextmanager
def quiet():
    """Keep transformers from reporting that the head of the classifier is new."""
    log, before = transformers.logging, transformers.logging.get_verbosity()
    bars = log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def make_recipe(
    backbone_folder, seconds, *, max_history=5, max_length=144, batch_size=16,
    learning_rate=1e-4, max_epochs=3, device="cpu",
):  # fmt: skip
    """Return the pipeline: events in, probability of a like out.

    Texts of MovieLens with five past events have 99 tokens at the median and 142 at most
    in a sample of 4,000. What is too long is cut on the left: the row itself stands last.
    """
    tokenizer = AutoTokenizer.from_pretrained(backbone_folder, truncation_side="left")
    net = NeuralNetClassifier(
        BertClassifier, module__folder=backbone_folder, criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW, optimizer__weight_decay=0.01, lr=learning_rate,
        batch_size=batch_size, iterator_valid__batch_size=64, iterator_train__shuffle=True,
        max_epochs=max_epochs, train_split=None, callbacks=[Budget(seconds, learning_rate)],
        callbacks__print_log=None, device=device, verbose=0,
    )  # fmt: skip
    return Pipeline(
        [
            ("behavior", BehaviorText(max_history=max_history)),
            ("tokens", HuggingfacePretrainedTokenizer(tokenizer, max_length=max_length)),
            ("net", net),
        ]
    )


def evaluate(recipe, X, y, train, test, *, n_train_rows=None, follow=True, seed=0):
    """Fit on rows ``train`` of a log (a frame in order of time) and score rows ``test``.

    The text of a row is as of the row's own time; `BehaviorText.fit_transform` computes this for
    a whole log at once. With ``follow``, test rows know all earlier events, like a model that
    observes each event after predicting it. Without, they know the training rows only.
    """
    start = time.perf_counter()
    # A budget on a processor ends after a few thousand rows. Of MovieLens 100K's training part
    # the last 3,000 are of 69 users, a random 3,000 of 642: many people teach more than few.
    rows = np.random.default_rng(seed).permutation(train)[:n_train_rows]
    behavior, learner = recipe["behavior"], recipe[1:]
    if follow:
        texts = behavior.fit_transform(X, y)
        queried = texts[test]
    else:
        texts = np.empty(len(y), object)
        texts[train] = behavior.fit_transform(X.iloc[train], y[train])
        queried = behavior.transform(X.iloc[test])
    text_seconds = (time.perf_counter() - start) / len(y)  # seconds a row
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        start = time.perf_counter()
        learner.fit(texts[rows], y[rows])
    preparing = recipe["net"].callbacks[0].start_ - start
    training = time.perf_counter() - start - preparing
    n_rows = recipe["net"].callbacks[0].n_rows_
    start = time.perf_counter()
    probability = learner.predict_proba(queried)[:, 1]
    scoring = time.perf_counter() - start + text_seconds * len(test)
    return {
        "auc": float(roc_auc_score(y[test], probability)),
        "log_loss": float(log_loss(y[test], probability)),
        "rows_per_second_training": n_rows / training,
        "rows_per_second_scoring": len(test) / scoring,
        "n_rows": n_rows,
        "training_seconds": training,
        "preparing_seconds": preparing + text_seconds * len(y),
    }


def plain_recipe(
    backbone_folder, seconds=300.0, *, n_train_rows=None, n_test_rows=None, follow=True, seed=0,
    **options,
):  # fmt: skip
    """Train the recipe on MovieLens 100K for ``seconds`` and evaluate it on the last 10 %.

    A like is four stars or more. The log is sorted by time, stably: 80 % to train on, 10 % to
    choose on, where nothing was chosen, and 10 % to test. Rows to train on are drawn at
    random, in random order, as many as the time allows. The time is that of training: texts
    and tokens are prepared beforehand, which ``preparing_seconds`` reports.

    Parameters
    ----------
    backbone_folder : str
        A BERT and its tokenizer, as transformers saves them.
    seconds : float, default=300
    n_train_rows, n_test_rows : int, default=None
        Rows drawn at most; None: all.
    follow : bool, default=True
        Whether test rows know the events since training, see `evaluate`.
    seed : int, default=0
    **options
        Of `make_recipe`: max_history, max_length, batch_size, learning_rate, max_epochs, device.

    Returns
    -------
    dict
        auc, log_loss, rows_per_second_training, rows_per_second_scoring, n_rows (trained on,
        repeats counted), training_seconds, preparing_seconds.
    """
    ratings = fetch_movielens("100k", as_frame=True)
    order = np.argsort(ratings.data["timestamp"].to_numpy(), kind="stable")
    films = ratings.catalogue.set_index("item_id")["text"]
    X = ratings.data.iloc[order].reset_index(drop=True)
    X = X.assign(text=films.loc[X["item_id"]].to_numpy())
    y = (ratings.target.to_numpy()[order] >= 4).astype(np.int64)
    train, test = np.arange(int(0.8 * len(y))), np.arange(int(0.9 * len(y)), len(y))
    if n_test_rows is not None:
        test = np.sort(np.random.default_rng(seed).permutation(test)[:n_test_rows])
    recipe = make_recipe(backbone_folder, seconds, **options)
    return evaluate(recipe, X, y, train, test, n_train_rows=n_train_rows, follow=follow, seed=seed)
