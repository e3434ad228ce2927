"""What is said of a fusion's use is the mean of the weights that really acted, over real tokens only."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.usage import Usage
from adapterstilts.settings import EngineSettings

from .conftest import hidden, random_batch, trained

BATCH = random_batch()
TREES = ["fuse(a, b)", "fuse(a, b, how=weights)", "fuse(d, e, how=attention)", "stack(fuse(d, e), fuse(a, b))"]


def fused(fresh_base, expression, **engine):  # type: ignore[no-untyped-def]
    kinds = {"a": "lora", "b": "lora", "d": "seq_bn", "e": "seq_bn"}
    modules = {n: trained(fresh_base(), kind, i) for i, (n, kind) in enumerate(kinds.items()) if n in expression[4:]}
    adapted = Adapted(fresh_base(), modules, parse(expression), engine=EngineSettings(**engine))
    with torch.no_grad():
        for number, parameter in enumerate(adapted.fusion_tensors().values()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return adapted


@pytest.mark.parametrize("expression", TREES)
def test_shares_are_means_over_tokens_and_sum_to_one(fresh_base, expression):  # type: ignore[no-untyped-def]
    adapted = fused(fresh_base, expression)
    seen: dict[tuple[str, str], list[torch.Tensor]] = {}
    for place, mixture in adapted.mixtures.items():
        mixture.register_forward_hook(lambda m, i, alpha, place=place: seen.setdefault(place, []).append(alpha[0]))
    usage = Usage(adapted)
    with usage.watching():
        before = hidden(adapted, BATCH)
        hidden(adapted, random_batch(7, (5, 2)))
    assert torch.equal(hidden(adapted, BATCH), before)  # watching changes nothing, and ends
    rows = usage.rows()
    assert len(rows) == len(adapted.mixtures) == len(seen) and {row["layer"] for row in rows} == {0, 1}
    for row, alphas in zip(rows, seen.values(), strict=True):
        alpha = torch.cat(alphas[:2])
        assert row["tokens"] == len(alpha) == 29 + 7
        assert row["share"] == pytest.approx(alpha.mean(0).tolist(), abs=1e-5)
        assert sum(row["share"]) == pytest.approx(1, abs=1e-5)
        assert row["deviation"] == pytest.approx(alpha.std(0, unbiased=False).tolist(), abs=1e-4)
        assert (max(row["deviation"]) < 1e-5) == (row["how"] == "weights")


@pytest.mark.parametrize("expression", TREES[:3])
def test_padding_does_not_count(fresh_base, expression):  # type: ignore[no-untyped-def]
    found = []
    for packed in (True, False):
        adapted = fused(fresh_base, expression, packed=packed)
        with Usage(adapted).watching() as usage:
            hidden(adapted, BATCH)
        found.append(usage.rows())
    for one, two in zip(*found, strict=True):
        assert one["tokens"] == two["tokens"] == 29
        assert one["share"] == pytest.approx(two["share"], abs=1e-5)
