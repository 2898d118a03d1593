"""Loss functions of batches, as torch modules."""

from torch import Tensor, nn


class PenalisedLoss(nn.Module):
    """Weighted mean of a pointwise loss plus ``reg / 2`` times the squared norms.

    ``loss`` is "squared_error", "log_loss" (targets 0 to 1) or "bpr" (scores are
    differences). The target has two columns: value and weight.
    """

    def __init__(self, loss: str, reg: float) -> None:
        super().__init__()
        self.loss, self.reg = loss, reg

    def forward(self, output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """Compute the mean loss of a batch: scores and norms (B,), target (B, 2)."""
        score, norm = output
        value, weight = target.unbind(1)
        if self.loss == "squared_error":
            each = (score - value).square() / 2
        elif self.loss == "log_loss":
            each = nn.functional.binary_cross_entropy_with_logits(score, value, reduction="none")
        else:
            each = nn.functional.softplus(-score)
        return (weight * (each + self.reg / 2 * norm)).sum() / weight.sum()


class LogLoss(nn.Module):
    """Weighted mean logistic loss of logits (B,); the target (B, 2) is value and weight."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the mean loss of a batch."""
        value, weight = target.unbind(1)
        each = nn.functional.binary_cross_entropy_with_logits(output, value, reduction="none")
        return (weight * each).sum() / weight.sum()


class PointLoss(nn.Module):
    """Weighted mean of a loss of each row; the target (B, 2) is value and weight.

    ``loss`` is "squared_error", "log_loss" (scores are logits, targets 0 to 1) or "poisson" (scores
    are the logarithms of rates, targets are counts).
    """

    def __init__(self, loss: str) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the mean loss of a batch."""
        value, weight = target.unbind(1)
        if self.loss == "squared_error":
            each = (output - value).square() / 2
        elif self.loss == "log_loss":
            each = nn.functional.binary_cross_entropy_with_logits(output, value, reduction="none")
        else:
            output = output.clamp(max=15.0)  # beyond it, float32 sums of rates are of no use
            each = output.exp() - value * output
        return (weight * each).sum() / weight.sum()


class OwnLoss(nn.Module):
    """Identity, for modules whose ``forward`` returns the loss itself, ()."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return output
