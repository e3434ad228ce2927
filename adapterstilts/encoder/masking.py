"""Masked language modelling: which tokens are hidden (Devlin et al. 2019: 15 %, of these 80/10/10)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from adapterstilts.encoder.batch import Batch
from adapterstilts.encoder.heads import IGNORE


@dataclass(frozen=True)
class Masking:
    """``share`` of the ordinary tokens are predicted: 80 % of them shown as ``<mask>``, 10 % as a random token."""

    mask_id: int
    vocabulary: int
    share: float = 0.15

    def apply(self, batch: Batch, random: np.random.Generator) -> Batch:
        """The batch with masked ids and the field ``label`` (IGNORE where nothing is predicted)."""
        ids = batch.ids.numpy().copy()
        ordinary = batch.fields["special"].numpy() == 0
        chosen = ordinary & (random.random(len(ids)) < self.share)
        if not chosen.any() and ordinary.any():
            chosen[random.choice(np.flatnonzero(ordinary))] = True
        label = np.where(chosen, ids, IGNORE)
        way = random.random(len(ids))
        noise = random.integers(4, self.vocabulary, len(ids))
        shown = np.where(chosen & (way < 0.8), self.mask_id, np.where(chosen & (way >= 0.9), noise, ids))
        return replace(batch, ids=torch.from_numpy(shown), fields={**batch.fields, "label": torch.from_numpy(label)})
