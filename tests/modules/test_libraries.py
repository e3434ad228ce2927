"""What peft and adapters do that is not what the same words mean here. An upgrade that changes one of these is noticed.

Each is a reason for something in modules/: when a test fails, the library was repaired, and the detour can go.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from .conftest import random_batch
from .test_artifact import _padded

IDS, MASK = _padded(random_batch(3))


@torch.no_grad()
def out(model):  # type: ignore[no-untyped-def]
    return model.eval()(input_ids=IDS, attention_mask=MASK)[0]


def same(one, two, tolerance=1e-5):  # type: ignore[no-untyped-def]
    return float((one - two).norm() / two.norm()) < tolerance


def randomise(model, part):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if part in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def theirs(fresh_base, **configs):  # type: ignore[no-untyped-def]
    """A plain adapters model with random modules of these configurations; one called `fresh` stays as it was made."""
    import adapters

    model = fresh_base().model
    adapters.init(model)
    for name, config in configs.items():
        model.add_adapter(name, config=config)
        if name != "fresh":
            randomise(model, f".{name}.")
    return model


def lora(**parameters):  # type: ignore[no-untyped-def]
    from adapters import LoRAConfig

    return LoRAConfig(**{"r": 4, "alpha": 8, "attn_matrices": ["q", "v"], **parameters})


def active(model, block):  # type: ignore[no-untyped-def]
    model.set_active_adapters(block)
    return out(model)


# -- adapters: composition --------------------------------------------------------------------------------------------


def test_stack_of_loras_feeds_the_second_with_the_first_and_a_fresh_one_erases_it(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Stack

    model = theirs(fresh_base, a=lora(), fresh=lora())
    bare, alone = active(model, None), active(model, "a")
    assert not same(alone, bare, 1e-2)
    assert same(active(model, Stack("a", "fresh")), bare)


def test_stack_of_loras_of_unequal_widths_crashes(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Stack

    wide = {"intermediate_lora": True, "output_lora": True, "selfattn_lora": False}
    model = theirs(fresh_base, a=lora(**wide), b=lora(**wide))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        active(model, Stack("a", "b"))


def test_fuse_of_loras_is_refused_only_when_it_runs(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Fuse

    model = theirs(fresh_base, a=lora(), b=lora())
    model.add_adapter_fusion(Fuse("a", "b"))
    model.set_active_adapters(Fuse("a", "b"))
    with pytest.raises(NotImplementedError):
        out(model)


def test_a_fusion_fails_where_only_others_of_its_stack_sit(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Fuse, Stack

    model = theirs(fresh_base, a="seq_bn", b="seq_bn", top="double_seq_bn")
    model.add_adapter_fusion(Fuse("a", "b"))
    with pytest.raises(KeyError):
        active(model, Stack(Fuse("a", "b"), "top"))


@pytest.mark.parametrize("kind", ["lora", "seq_bn"])
def test_average_divides_twice(fresh_base, kind):  # type: ignore[no-untyped-def]
    from adapters.composition import Average

    config = lora() if kind == "lora" else "seq_bn"
    model = theirs(fresh_base, a=config, b=config)
    alone = active(model, "a")
    assert not same(active(model, Average("a", "b", weights=[1.0, 0.0])), alone, 1e-3)


def test_a_parallel_bottleneck_in_a_stack_loses_the_hidden_state(fresh_base):  # type: ignore[no-untyped-def]
    from adapters import ParBnConfig
    from adapters.composition import Stack

    config = ParBnConfig(reduction_factor=2, init_weights="bert")
    model = theirs(fresh_base, a=config, fresh=config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".fresh." in name:
                parameter.zero_()
    assert not same(active(model, Stack("a", "fresh")), active(model, "a"), 1e-3)


def test_only_the_lowest_map_of_the_embeddings_counts(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Stack

    model = theirs(fresh_base, a="seq_bn_inv", b="seq_bn_inv")
    with torch.no_grad():
        both = active(model, Stack("a", "b"))
        for name, parameter in model.named_parameters():
            if name.startswith("invertible_adapters.b."):
                parameter.zero_()
    assert same(active(model, Stack("a", "b")), both)


# -- adapters: what trains, what is saved -----------------------------------------------------------------------------


def test_training_a_stack_trains_all_of_it(fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Stack

    model = theirs(fresh_base, a="seq_bn", b="seq_bn")
    model.train_adapter(Stack("a", "b"))
    trains = {name.split(".adapters.")[1][0] for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {"a", "b"}


def test_a_merged_adapter_is_undone_by_the_next_switch(fresh_base):  # type: ignore[no-untyped-def]
    model = theirs(fresh_base, a=lora(), b=lora())
    bare, alone = active(model, None), active(model, "a")
    model.merge_adapter("a")
    assert same(out(model), alone)
    model.set_active_adapters("b")
    model.set_active_adapters(None)
    assert same(out(model), bare)


def test_a_loaded_adapter_is_not_active_and_a_saved_one_is_a_pickle(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    model = theirs(fresh_base, a="seq_bn")
    alone = active(model, "a")
    model.save_adapter(str(tmp_path / "a"), "a")
    assert (tmp_path / "a" / "pytorch_adapter.bin").is_file()
    again = theirs(fresh_base)
    bare = out(again)
    again.load_adapter(str(tmp_path / "a"))
    assert same(out(again), bare) and same(active(again, "a"), alone)


# -- the two on one model ---------------------------------------------------------------------------------------------


def config(**parameters):  # type: ignore[no-untyped-def]
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "target_modules": ["query", "value"], **parameters})


def test_adapters_after_peft_removes_the_lora_in_silence(fresh_base):  # type: ignore[no-untyped-def]
    import adapters
    from peft import inject_adapter_in_model

    model = fresh_base().model
    bare = out(model)
    inject_adapter_in_model(config(), model, adapter_name="a")
    randomise(model, "lora_")
    assert not same(out(model), bare, 1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapters.init(model)
    assert same(out(model), bare)
    assert not [name for name, _ in model.named_parameters() if "lora_" in name]


def test_peft_after_adapters_freezes_the_bottlenecks_and_does_not_save_them(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    from peft import get_peft_model
    from safetensors.torch import load_file

    model = theirs(fresh_base, a="seq_bn")
    model.train_adapter("a")
    assert [name for name, p in model.named_parameters() if p.requires_grad and ".a." in name]
    wrapped = get_peft_model(model, config())
    assert not [name for name, p in wrapped.named_parameters() if p.requires_grad and ".adapters.a." in name]
    wrapped.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "adapter_model.safetensors") if "adapters.a" in name]


# -- peft -------------------------------------------------------------------------------------------------------------


def two(model, **parameters):  # type: ignore[no-untyped-def]
    from peft import get_peft_model

    made = get_peft_model(model, config(**parameters), adapter_name="x1")
    made.add_adapter("x2", config(**parameters))
    randomise(made, "lora_")
    return made


def test_several_active_loras_need_a_side_door_and_all_of_them_train(fresh_base):  # type: ignore[no-untyped-def]
    model = two(fresh_base().model)
    with pytest.raises(TypeError):
        model.set_adapter(["x1", "x2"])
    model.base_model.set_adapter(["x1", "x2"])
    trains = {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad}
    assert trains == {"x1", "x2"}


def test_a_model_with_a_classifier_takes_one_at_a_time(fresh_base):  # type: ignore[no-untyped-def]
    from transformers import XLMRobertaForSequenceClassification

    model = two(XLMRobertaForSequenceClassification.from_pretrained(fresh_base().directory), task_type="SEQ_CLS")
    with pytest.raises(ValueError, match="Only one adapter"):
        model.base_model.set_adapter(["x1", "x2"])


def test_rows_of_several_adapters_are_refused_in_training(fresh_base):  # type: ignore[no-untyped-def]
    model = two(fresh_base().model)
    names = ["x1", "x2", "x1", "x2", "x1"]
    model.eval()(input_ids=IDS, attention_mask=MASK, adapter_names=names)
    with pytest.raises(ValueError, match="adapter_names"):
        model.train()(input_ids=IDS, attention_mask=MASK, adapter_names=names)


def test_what_is_saved_says_nothing_of_the_composition(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    model = two(fresh_base().model)
    model.base_model.set_adapter(["x2", "x1"])
    model.save_pretrained(tmp_path)
    kept = {str(Path(path).relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    files = ("adapter_config.json", "adapter_model.safetensors")
    assert kept - {"README.md"} == {f"{name}/{file}" for name in ("x1", "x2") for file in files}


def test_kinds_of_peft_multiply_instead_of_adding(fresh_base):  # type: ignore[no-untyped-def]
    # IA3 over a LoRA scales the LoRA's output, too: no sum of what each adds alone.
    from peft import IA3Config, inject_adapter_in_model

    def output(*kinds):  # type: ignore[no-untyped-def]
        model = fresh_base().model
        for kind in kinds:
            made = config() if kind == "lora" else IA3Config(target_modules=["query", "value"], feedforward_modules=[])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a second module on one model
                inject_adapter_in_model(made, model, adapter_name=f"the-{kind}")
        randomise(model, "lora_")
        randomise(model, "ia3_l")
        layer = model.encoder.layer[0].attention.self.value
        x = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return layer(x)

    bare, one, other, both = output(), output("lora"), output("ia3"), output("lora", "ia3")
    assert not same(both, one + other - bare, 1e-2)
