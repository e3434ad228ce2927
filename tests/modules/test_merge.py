"""Merging: exact where it claims to be, and measured where it is not."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.errors import RecipeError
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.merge import merge
from adapterstilts.modules.search import search

from .conftest import hidden, random_batch, trained
from .test_artifact import store

BATCH = random_batch(5)


def modules(tmp_path, fresh_base, name="lora", **second):  # type: ignore[no-untyped-def]
    a, _ = store(tmp_path / "a", fresh_base, {"a": trained(fresh_base(), name, 1)}, Leaf("a"), "a")
    b, _ = store(tmp_path / "b", fresh_base, {"b": trained(fresh_base(), name, 2, **second)}, Leaf("b"), "b")
    return a, b


def outputs(fresh_base, weights):  # type: ignore[no-untyped-def]
    return hidden(Adapted(fresh_base(), {"m": weights}, Leaf("m")), BATCH)


def test_cat_is_the_exact_sum_also_of_unequal_ranks_and_layers(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    a, b = modules(tmp_path, fresh_base, r=2, layers=[1])
    merged = merge([a, b], [0.7, -0.4], "cat", {}, 0)
    both = {**a.weights(), **b.weights()}
    exact = hidden(Adapted(fresh_base(), both, parse(f"stack(0.7*{a.trained}, -0.4*{b.trained})")), BATCH)
    torch.testing.assert_close(outputs(fresh_base, merged.weights), exact, atol=1e-5, rtol=1e-4)
    assert merged.error == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("how", ["cat", "svd", "linear"])
def test_weights_one_and_zero_give_the_first(fresh_base, tmp_path, how):  # type: ignore[no-untyped-def]
    a, b = modules(tmp_path, fresh_base)
    alone = hidden(Adapted(fresh_base(), a.weights(), a.tree), BATCH)
    merged = merge([a, b], [1.0, 0.0], how, {}, 0)
    torch.testing.assert_close(outputs(fresh_base, merged.weights), alone, atol=1e-5, rtol=1e-4)


def test_svd_is_exact_at_the_full_rank_and_best_below_it(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    a, b = modules(tmp_path, fresh_base)
    errors = [merge([a, b], [0.5, 0.5], "svd", {"rank": rank}, 0).error for rank in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True) and errors[-1] == pytest.approx(0.0, abs=1e-5)
    for how in ("linear", "ties", "dare_ties", "dare_linear", "magnitude"):
        lossy = merge([a, b], [0.5, 0.5], how, {"rank": 4}, 0).error
        assert lossy is not None and lossy >= errors[1] - 1e-6, how


@pytest.mark.parametrize("how", ["cat", "svd", "linear"])
def test_parity_with_peft(fresh_base, tmp_path, how):  # type: ignore[no-untyped-def]
    from peft import PeftModel

    a, b = modules(tmp_path, fresh_base)
    merged = merge([a, b], [0.6, 0.3], how, {"rank": 4}, 0)
    plain = PeftModel.from_pretrained(fresh_base().model, str(a.directory / "leaves" / a.trained), adapter_name="a")
    plain.load_adapter(str(b.directory / "leaves" / b.trained), adapter_name="b")
    plain.add_weighted_adapter(
        ["a", "b"], [0.6, 0.3], "m", combination_type=how, **({"svd_rank": 4} if how == "svd" else {})
    )
    plain.set_adapter("m")
    ours = Adapted(fresh_base(), {"m": merged.weights}, Leaf("m"))
    for path, site in ours.model.named_modules():
        if hasattr(site, "lora_A") and "m0" in site.lora_A:
            theirs = plain.base_model.model.get_submodule(path)
            mine = site.lora_B["m0"].weight @ site.lora_A["m0"].weight * site.scaling["m0"]
            wanted = theirs.lora_B["m"].weight @ theirs.lora_A["m"].weight * theirs.scaling["m"]
            torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-3)


def test_bottlenecks_average_their_parameters(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    a, b = modules(tmp_path, fresh_base, "seq_bn")
    alone = hidden(Adapted(fresh_base(), a.weights(), a.tree), BATCH)
    torch.testing.assert_close(outputs(fresh_base, merge([a, b], [1.0, 0.0], "average", {}, 0).weights), alone)
    half = merge([a, b], [0.5, 0.5], "average", {}, 0).weights.tensors
    name = next(iter(half))
    mean = (a.weights()[a.trained].tensors[name] + b.weights()[b.trained].tensors[name]) / 2
    torch.testing.assert_close(half[name], mean)


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_the_average_of_deltas_is_the_mean_of_what_they_add(fresh_base, tmp_path, name):  # type: ignore[no-untyped-def]
    a, b = modules(tmp_path, fresh_base, name)
    both = {**a.weights(), **b.weights()}
    mean = hidden(Adapted(fresh_base(), both, parse(f"stack(0.5*{a.trained}, 0.5*{b.trained})")), BATCH)
    merged = merge([a, b], [0.5, 0.5], "average", {}, 0)
    torch.testing.assert_close(outputs(fresh_base, merged.weights), mean, atol=1e-5, rtol=1e-4)


def test_task_arithmetic_takes_a_task_away(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    # Ilharco et al. 2023: a + b - b = a, and a - a is the base.
    a, b = modules(tmp_path, fresh_base)
    c, _ = store(tmp_path / "c", fresh_base, {"c": merge([a, b], [1.0, 1.0], "cat", {}, 0).weights}, Leaf("c"), "c")
    alone = hidden(Adapted(fresh_base(), a.weights(), a.tree), BATCH)
    again = merge([c, b], [1.0, -1.0], "cat", {}, 0)
    torch.testing.assert_close(outputs(fresh_base, again.weights), alone, atol=1e-5, rtol=1e-4)
    nothing = merge([a, a], [1.0, -1.0], "svd", {"rank": 4}, 0)
    bare = hidden(Adapted(fresh_base(), {}, None), BATCH)
    torch.testing.assert_close(outputs(fresh_base, nothing.weights), bare, atol=1e-5, rtol=1e-4)


def test_a_search_finds_the_valley_of_a_known_function():  # type: ignore[no-untyped-def]
    wanted, tried = (0.7, -0.4, 0.0), []

    def loss(weights):  # type: ignore[no-untyped-def]
        tried.append(weights)
        return sum((w - v) ** 2 for w, v in zip(weights, wanted, strict=True))

    best = search(loss, 3, steps=80, penalty=0.0, bound=1.5, told=lambda candidate, done: None)
    assert best.weights == pytest.approx(wanted, abs=0.05) and len(tried) <= 85
    assert tried[:5] == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.333333,) * 3, (0, 0, 0)]
    # The penalty is LoraHub's: it pulls towards zero, and the bound holds.
    heavy = search(loss, 3, steps=80, penalty=6.0, bound=1.5, told=lambda candidate, done: None)
    assert heavy.weights == pytest.approx((0.0, 0.0, 0.0), abs=0.05)
    tight = search(loss, 3, steps=80, penalty=0.0, bound=0.5, told=lambda candidate, done: None)
    assert tight.weights == pytest.approx((0.5, -0.4, 0.0), abs=0.05)
    assert search(loss, 3, steps=0, penalty=0.0, bound=1.5, told=lambda candidate, done: None).weights == (1, 0, 0)


def test_families_do_not_merge(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    a, _ = modules(tmp_path, fresh_base)
    c, _ = store(tmp_path / "c", fresh_base, {"c": trained(fresh_base(), "seq_bn", 2)}, Leaf("c"), "c")
    with pytest.raises(RecipeError, match="deltas and bottlenecks"):
        merge([a, c], [0.5, 0.5], "cat", {}, 0)
