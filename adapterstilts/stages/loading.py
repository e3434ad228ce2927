"""The base of a stage: in its precision, with the embedding rows that the stage's own data look up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapterstilts.data.prepared import Prepared
from adapterstilts.encoder.base import Base, load_base
from adapterstilts.modules.methods import replaces_base
from adapterstilts.settings import EngineSettings, MethodSettings, Precision
from adapterstilts.stages.specs import BaseRef


def open_base(
    ref: BaseRef,
    precision: Precision,
    engine: EngineSettings,
    splits: Iterable[Prepared],
    methods: Iterable[MethodSettings] = (),
) -> Base:
    """A base for prepared splits and modules of these methods.

    Masked-LM needs every row of the embeddings: any subword may stand in for another, or be predicted. So does a module
    that takes the place of the base.
    """
    every = list(splits)
    closed = engine.compact and not replaces_base(methods) and all(split.task.format != "masked_lm" for split in every)
    used = [split.arrays.ids for split in every] if closed else None
    return load_base(ref.ref, precision, used=used, embeddings=engine.embeddings)


def engine_facts(adapted: Any) -> dict[str, Any]:
    """How a stage ran, for its manifest."""
    base: Base = adapted.base
    return {
        "packed": adapted.packed,
        "precision": base.precision,
        "attention": sorted(adapted.ways),
        "embedding_rows": len(adapted.model.get_input_embeddings().weight),
        "recompute": adapted.engine.recompute,
        "device": str(adapted.model.device),
    }
