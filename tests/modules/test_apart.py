"""Rows with compositions of their own over one forward of the base: each is answered as if it were alone."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.errors import RecipeError
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import BASE
from adapterstilts.modules.expressions import parse

from .conftest import hidden, random_batch, trained

LENGTHS = (7, 3, 11, 7, 1)
BATCH = random_batch(0, LENGTHS)
KINDS = {"a": "lora", "b": "lora", "c": "dora", "d": "seq_bn", "e": "par_bn", "f": "ia3", "u": "union"}
TREES = ["a", "stack(b, d)", "fuse(c, u)", "stack(0.5*a, e, f)", "base"]


def test_each_row_has_its_own(fresh_base):  # type: ignore[no-untyped-def]
    modules = {name: trained(fresh_base(), kind, number) for number, (name, kind) in enumerate(KINDS.items())}
    adapted = Adapted(fresh_base(), modules, None)
    trees = [parse(tree) for tree in TREES]
    alone = []
    for tree in trees:
        adapted.activate(None if tree == BASE else tree)
        alone.append(hidden(adapted, BATCH))
    tokens = [
        torch.arange(start, start + length)
        for start, length in zip(BATCH.starts.tolist(), BATCH.lengths.tolist(), strict=True)
    ]
    adapted.activate_apart(trees)
    calls: list[int] = []
    weight = adapted.model.encoder.layer[0].attention.self.query
    while hasattr(weight, "base_layer"):
        weight = weight.base_layer
    weight.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        together = adapted.encode_apart(BATCH, tokens)
    assert len(calls) == 1
    for one, own in zip(alone, tokens, strict=True):
        torch.testing.assert_close(together[own], one[own], atol=1e-5, rtol=1e-4)
    adapted.activate(trees[0])
    torch.testing.assert_close(hidden(adapted, BATCH), alone[0], atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["seq_bn_inv", "prefix_tuning"])
def test_what_acts_on_whole_rows_is_refused(fresh_base, kind):  # type: ignore[no-untyped-def]
    modules = {"a": trained(fresh_base(), "lora", 1), "x": trained(fresh_base(), kind, 2)}
    adapted = Adapted(fresh_base(), modules, None)
    with pytest.raises(RecipeError, match="some of the rows"):
        adapted.activate_apart([parse("a"), parse("x")])
