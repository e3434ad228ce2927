"""The settings a stage can be given: frozen, validated, torch-free. Recipe, plan, training and modules share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from adapterstilts.amounts import count_bytes
from adapterstilts.errors import RecipeError


def _number(value: Any) -> Any:
    # YAML 1.1 reads 3e-5 as text; a learning rate should not need a dot to be a number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _bytes(value: Any) -> Any:
    try:
        return count_bytes(value) if isinstance(value, str) else value
    except RecipeError as error:
        raise ValueError(f"{error.what}; {error.fix}") from None


Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Precision = Literal["fp32", "bf16", "int8", "nf4", "int8-dynamic"]  # of a frozen base; what is trained on it is fp32


class Settings(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineSettings(Settings):
    """How stages compute: memory and speed. Nothing here is part of a hash (docs/engine.md: how exact each one is)."""

    packed: bool = Field(True, description="run tokens unpadded")
    tokens: int = Field(4096, gt=0, description="token budget of a micro-batch")
    compact: bool = Field(True, description="hold only the embedding rows of subwords that occur in the stage's data")
    recompute: int = Field(0, ge=0, description="layers in a segment whose activations are computed again; 0: all kept")
    first_only: bool = Field(True, description="in the last layer, only <s> where the head reads nothing else")
    embeddings: Literal["device", "cpu"] = Field("device", description="where the word embeddings lie")
    attention: Literal["auto", "grouped", "padded", "varlen"] = Field("auto", description="of unpadded rows")
    cache: Annotated[int, BeforeValidator(_bytes)] = Field(
        4 * 10**9, ge=0, description="disk for hidden states below modules, while a stage or its run goes on; 0: none"
    )
    allocator: Literal["default", "lean"] = Field("default", description="lean: less memory lost to fragmentation")

    @model_validator(mode="after")
    def _segments_run_unpadded(self) -> EngineSettings:
        if self.recompute and not self.packed:
            raise ValueError("recompute needs packed: true; the library's padded forward is run whole")
        return self


class MixSettings(Settings):
    """How tasks share the updates of a joint run.

    ``proportional`` draws task m with p_m = min(n_m, cap)^(1/temperature) / sum (Raffel et al. 2020, section 3.5.2);
    ``uniform`` draws every task alike. Each update holds examples of one task.
    """

    how: Literal["proportional", "uniform"] = "proportional"
    cap: int | None = Field(None, gt=0)
    temperature: Float = Field(1.0, gt=0)


class TrainSettings(Settings):
    """The schedule of one training stage. ``learning_rate: null`` takes the method's default."""

    epochs: Float | None = Field(None, gt=0, description="passes over the (limited) training data; steps wins")
    steps: int | None = Field(None, gt=0, description="updates; default 3 epochs")
    batch: int = Field(32, gt=0, description="examples in one update")
    learning_rate: Float | None = Field(None, gt=0)
    head_learning_rate: Float | None = Field(None, gt=0, description="default: the module's")
    warmup: Float = Field(0.1, ge=0, le=1, description="share of the steps")
    weight_decay: Float = Field(0.01, ge=0, description="none on bias and LayerNorm")
    clip: Float = Field(1.0, gt=0, description="largest gradient norm")
    dropout: Float = Field(0.0, ge=0, lt=1, description="inside the trained modules and heads")
    base_dropout: bool = Field(False, description="keep the frozen base's own dropout on")
    evaluate: int = Field(0, ge=0, description="times English dev is scored during training; 0 = only at the end")
    patience: int | None = Field(None, gt=0, description="stop after this many dev scores without gain")
    select: Literal["best", "last"] = "last"
    dev_limit: int = Field(500, gt=0, description="development examples scored per task")
    checkpoints: int = Field(4, ge=0, description="resumable checkpoints written on the way")
    precision: Precision = Field("fp32", description="of the frozen base; modules stay fp32")
    mix: MixSettings = MixSettings()

    @model_validator(mode="after")
    def _gradients_flow(self) -> TrainSettings:
        if self.precision == "int8-dynamic":
            raise ValueError("int8-dynamic lets no gradient through and says nothing; train in int8 or nf4 instead")
        return self

    @model_validator(mode="after")
    def _selection_needs_scores(self) -> TrainSettings:
        if (self.patience or self.select == "best") and not self.evaluate:
            raise ValueError("patience and select: best need dev scores; evaluate: N says how often dev is scored")
        return self


class MethodSettings(Settings):
    """A method by name with its own parameters: ``lora``, ``{name: lora, r: 16}``, ``lora+seq_bn`` for a union."""

    name: str
    parameters: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = [{"name": name.strip()} for name in value.split("+")]
            return parts[0] if len(parts) == 1 else {"name": "union", "parameters": {"of": parts}}
        if isinstance(value, dict) and "parameters" not in value:
            return {"name": value.get("name"), "parameters": {k: v for k, v in value.items() if k != "name"}}
        return value


class RankSettings(Settings):
    """Of a merge that ends at a rank; default the largest of the parts."""

    rank: int | None = Field(None, gt=0)


class PruneSettings(RankSettings):
    """Of a merge that drops the smallest or random entries; ``density`` is the share that stays."""

    density: Float = Field(0.5, gt=0, le=1)


class SearchSettings(Settings):
    """Of a search for the weights of a merge; the defaults are those of LoraHub's script."""

    task: str = Field(description="task or task/language, on whose development examples candidates are measured")
    examples: int = Field(32, gt=0)
    steps: int = Field(40, ge=0, description="evaluations after the modules alone, their mean and the bare base")
    penalty: Float = Field(0.05, ge=0, description="times the mean of |weight|, added to the loss")
    bound: Float = Field(1.5, gt=0, description="largest |weight|")


# Ways to merge, and the parameters that each takes.
MERGES: Mapping[str, type[Settings]] = {
    "cat": Settings,
    "svd": RankSettings,
    "linear": Settings,
    "ties": PruneSettings,
    "dare_ties": PruneSettings,
    "dare_linear": PruneSettings,
    "magnitude": PruneSettings,
    "average": Settings,
    "search": SearchSettings,
}
