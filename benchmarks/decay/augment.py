"""Fine-tuning methods for `tuning.py` that the package has not: callbacks of skorch, a module."""

import warnings

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional


class HistoryDropout(Callback):
    """Remove each past event of a training row with this probability."""

    def __init__(self, probability):
        self.probability = probability

    def on_train_begin(self, net, **_):
        collate = net.iterator_train__collate

        def dropped(batch):
            made = collate(batch)
            lost = torch.rand(made["past"].shape) < self.probability
            made["past"] = made["past"].masked_fill(lost, -1)
            return made

        net.iterator_train__collate = dropped


class Mixup(Callback):
    """Mix the inputs of the hidden layer, and the targets, of pairs of rows.

    The input holds what attention returns of the history, so histories are mixed too.
    """

    def __init__(self, alpha):
        self.alpha = alpha

    def on_train_begin(self, net, **_):
        module, criterion = net.module_, net.criterion_
        score, state = module.score, {"share": 1.0}

        def mixed(*inputs):
            if not module.training:
                return score(*inputs)
            share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
            state["share"] = max(share, 1 - share)
            return score(*(self.mix(part, state["share"]) for part in inputs))

        def loss(output, target):
            value, weight = target.unbind(1)
            value = self.mix(value, state["share"])
            each = functional.binary_cross_entropy_with_logits(output, value, reduction="none")
            return (weight * each).sum() / weight.sum()

        module.score, criterion.forward = mixed, loss

    @staticmethod
    def mix(part, share):
        return share * part + (1 - share) * part.roll(1, 0)

    def on_train_end(self, net, **_):
        del net.module_.score, net.criterion_.forward


class TokenDropout(Callback):
    """Give each item, in each batch, the vector of its text without some of its words.

    The encoder is frozen, so ``vectors`` (n_variants, n_items, t) are computed beforehand. The
    first are those of the whole texts.
    """

    def __init__(self, vectors):
        self.vectors = vectors

    def on_train_begin(self, net, **_):
        module = net.module_
        self.whole_ = module.item_texts.clone()
        self.variants_ = torch.stack(
            [module.normalized(torch.from_numpy(v)) for v in self.vectors]
        )  # (V, n, t)
        torch.testing.assert_close(self.variants_[0], self.whole_)  # the order is that of the items

    def on_batch_begin(self, net, training=False, **_):
        if training:
            n = len(self.whole_)
            drawn = torch.randint(len(self.variants_), (n,))
            net.module_.item_texts.copy_(self.variants_[drawn, torch.arange(n)])

    def on_train_end(self, net, **_):
        net.module_.item_texts.copy_(self.whole_)


class MovingAverage(Callback):
    """Replace the weights at the end by their exponential moving average."""

    def __init__(self, decay):
        self.decay = decay

    def on_train_begin(self, net, **_):
        self.mean_ = None

    def on_batch_end(self, net, training=False, **_):
        if not training:
            return
        weights = [p.detach() for p in net.module_.parameters() if p.requires_grad]
        if self.mean_ is None:
            self.mean_ = [weight.clone() for weight in weights]
        for mean, weight in zip(self.mean_, weights, strict=True):
            mean.lerp_(weight, 1 - self.decay)

    def on_train_end(self, net, **_):
        with torch.no_grad():
            trained = [p for p in net.module_.parameters() if p.requires_grad]
            for weight, mean in zip(trained, self.mean_, strict=True):
                weight.copy_(mean)


def without_words(texts, probability, rng):
    """Remove words of texts with this probability; each keeps one at least."""
    found = []
    for text in texts:
        words = np.array(text.split() or [""], object)
        kept = rng.random(len(words)) >= probability
        kept[rng.integers(len(words))] = True
        found.append(" ".join(words[kept]))
    return found


class Prompted(nn.Module):
    """A BERT whose weights are frozen, with trained virtual tokens by peft.

    ``kind`` is "prompt" (vectors at the input) or "prefix" (keys and values of each layer).
    """

    def __init__(self, model, kind, n_tokens=8):
        import peft

        super().__init__()
        configs = {"prompt": peft.PromptTuningConfig, "prefix": peft.PrefixTuningConfig}
        config = configs[kind](task_type="FEATURE_EXTRACTION", num_virtual_tokens=n_tokens)
        self.config = model.config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft about transformers
            self.body = peft.get_peft_model(model, config)

    def forward(self, input_ids, attention_mask):
        found = self.body(input_ids=input_ids, attention_mask=attention_mask)
        # The states of virtual tokens are no part of the text's vector.
        found.last_hidden_state = found.last_hidden_state[:, -input_ids.shape[1] :]
        return found
