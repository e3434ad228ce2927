"""The heads: hidden states of an unpadded batch -> logits and loss. Ours, outside peft and adapters.

A loss is a sum over units with their count, so that an update split into uneven micro-batches is exactly the update
of the whole (sum of sums / sum of counts). Units: examples (classification, multiple choice), windows (span),
labelled tokens (tagging), masked tokens (masked_lm).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterstilts.encoder.batch import Batch

IGNORE = -100


class Head(Protocol):
    """What training and prediction need of a head. ``reads_first``: of each row it reads the state of <s> alone."""

    reads_first: bool

    def __call__(self, hidden: Tensor, batch: Batch) -> Tensor: ...

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """(sum of the losses of all units, number of units)."""
        ...

    def outputs(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        """The logits of each row, in the rows' own order, as formats decode them."""
        ...


def pool(hidden: Tensor, batch: Batch, how: str) -> Tensor:
    """(T, d) -> (R, d) or (R, 2d): the ``<s>`` state, the mean over the row's tokens, or both."""
    first = hidden[batch.starts]
    if how == "cls":
        return first
    mean = torch.empty_like(first)
    # Groups hold equally long rows, so the mean needs no scatter; ``order`` maps them back to the rows' own order.
    order = torch.argsort(batch.starts)
    parts = [hidden[o : o + n * length].view(n, length, -1).mean(1) for o, n, length in batch.groups]
    mean = mean.index_copy(0, order, torch.cat(parts))
    return mean if how == "mean" else torch.cat([first, mean], dim=-1)


class PooledHead(nn.Module):
    """Classification head of RoBERTa: dropout, dense, tanh, dropout, linear."""

    def __init__(self, width: int, labels: int, *, pool: str = "cls", dropout: float = 0.0) -> None:
        super().__init__()
        self.pool = pool
        self.reads_first = pool == "cls"
        self.dense = nn.Linear(width * (2 if pool == "cls_mean" else 1), width)
        self.out = nn.Linear(width, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(T, d) -> (R, labels)."""
        states = self.dropout(pool(hidden, batch, self.pool))
        logits: Tensor = self.out(self.dropout(torch.tanh(self.dense(states))))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        labels = batch.fields["label"]
        return functional.cross_entropy(logits, labels, reduction="sum"), len(labels)

    def outputs(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        return list(logits.unbind(0))


class ChoiceHead(PooledHead):
    """Multiple choice: one score per row, softmax over the rows of an example."""

    def __init__(self, width: int, *, pool: str = "cls", dropout: float = 0.0) -> None:
        super().__init__(width, 1, pool=pool, dropout=dropout)

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        counts = batch.examples.diff()
        scores = logits.new_full((len(batch), int(counts.max())), float("-inf"))
        example = torch.repeat_interleave(torch.arange(len(batch), device=logits.device), counts)
        choice = torch.arange(len(logits), device=logits.device) - batch.examples[example]
        scores = scores.index_put((example, choice), logits[:, 0])
        return functional.cross_entropy(scores, batch.fields["label"], reduction="sum"), len(batch)


class TokenHead(nn.Module):
    """Tagging: dropout and a linear layer on each token; loss on first subwords."""

    reads_first = False

    def __init__(self, width: int, labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.out = nn.Linear(width, labels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(T, d) -> (T, labels)."""
        logits: Tensor = self.out(self.dropout(hidden))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        labels = batch.fields["label"]
        loss = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        return loss, int((labels != IGNORE).sum())

    def outputs(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        spans = zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
        return [logits[start : start + length] for start, length in spans]


class SpanHead(TokenHead):
    """Extractive QA: start and end logits per token; loss = mean of the two cross-entropies over the row's tokens.

    Question tokens stay in the softmax, as in the SQuAD scripts; decoding leaves them out.
    """

    def __init__(self, width: int, *, dropout: float = 0.0) -> None:
        super().__init__(width, 2, dropout=dropout)

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        order = torch.argsort(batch.starts)
        starts, ends = batch.fields["start"][order], batch.fields["end"][order]
        total = logits.new_zeros(())
        row = 0
        for offset, rows, length in batch.groups:
            block = logits[offset : offset + rows * length].view(rows, length, 2)
            for side, target in ((0, starts), (1, ends)):
                total = (
                    total + functional.cross_entropy(block[..., side], target[row : row + rows], reduction="sum") / 2
                )
            row += rows
        return total, len(batch.lengths)


class MaskedHead(nn.Module):
    """Masked language modelling through the base's own vocabulary head; logits on masked positions only."""

    reads_first = False

    def __init__(self, vocabulary: nn.Module) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(T, d) -> (masked, vocabulary)."""
        logits: Tensor = self.vocabulary(hidden[batch.fields["label"] != IGNORE])
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, int]:
        labels = batch.fields["label"]
        labels = labels[labels != IGNORE]
        return functional.cross_entropy(logits, labels, reduction="sum"), len(labels)

    def outputs(self, logits: Tensor, batch: Batch) -> list[Tensor]:
        # Per row the log-probability of each masked token, from which perplexity follows.
        labels = batch.fields["label"]
        scores = torch.full(labels.shape, float("nan"), device=logits.device)
        chosen = labels != IGNORE
        scores[chosen] = -functional.cross_entropy(logits, labels[chosen], reduction="none").float()
        spans = zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
        return [row[~row.isnan()] for row in (scores[start : start + length] for start, length in spans)]


def build_head(format: str, width: int, labels: int, *, pool: str = "cls", dropout: float = 0.0) -> nn.Module:
    """The head of a format; masked_lm is built from its base instead (``MaskedHead``)."""
    if format == "classification":
        return PooledHead(width, labels, pool=pool, dropout=dropout)
    if format == "multiple_choice":
        return ChoiceHead(width, pool=pool, dropout=dropout)
    if format == "tagging":
        return TokenHead(width, labels, dropout=dropout)
    if format == "span":
        return SpanHead(width, dropout=dropout)
    raise ValueError(f"no head for format {format}")
