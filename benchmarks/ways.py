"""The ways of training that are compared: ours, and what a user could pick instead. One interface for all.

A way trains from the same start (random, by parameter name) on the same examples; a turn is ``updates`` updates and
returns seconds for 1000 real tokens. Peers run inside transformers' Trainer, each also at its own best: padded to the
longest, in bf16 (autocast, or the whole model), and with batches of similar lengths, which are other updates.
"""

from __future__ import annotations

import gc
import os
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from common import LABELS, PAD, Clock, Size, arrays, checkpoint, tokens
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adapterstilts.encoder.base import Weights, load_base
from adapterstilts.encoder.batch import collate
from adapterstilts.encoder.heads import build_head
from adapterstilts.modules.attach import Adapted, LeafWeights
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.methods import resolve
from adapterstilts.settings import EngineSettings, MethodSettings, TrainSettings
from adapterstilts.training.course import Share
from adapterstilts.training.loop import fit
from adapterstilts.training.schedule import make_schedule

Rows = Sequence[NDArray[np.int32]]
METHODS = {
    "seq_bn": MethodSettings(name="seq_bn", parameters={"reduction": 16}),
    "lora": MethodSettings(name="lora", parameters={"r": 8, "alpha": 16, "sites": ["query", "value"]}),
}
RATE, DECAY, CLIP = 1e-4, 0.01, 1.0


class Way(Protocol):
    """One way to train."""

    fill: float  # real tokens / computed tokens

    def turn(self, updates: int) -> float:
        """Seconds for 1000 real tokens."""
        ...

    def losses(self, updates: int) -> list[float]:
        """The loss of each update, from the start."""
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """What trains, by names that all ways share."""
        ...

    def restart(self) -> None:
        """What trains is as it was at the start."""
        ...

    def hidden(self) -> Tensor | None:
        """(T, d) of the first update's rows at the start, row after row in their own order."""
        ...


def shared_name(name: str) -> str:
    """The name of a parameter without the library's wrapping and without the module's own name."""
    head = re.search(r"(?:^|\.)(dense|out|out_proj)\.(weight|bias)$", name)
    if head and "encoder.layer" not in name:
        return f"head.{head[1].removesuffix('_proj')}.{head[2]}"
    bare = re.sub(r"\.(m0|peer|default|adapters)(?=\.)", "", name)
    return bare[bare.index("encoder.layer") :] if "encoder.layer" in bare else bare


def reset(parameters: dict[str, nn.Parameter], stored: Weights | None = None) -> None:
    """Every parameter to its start, the same in all ways: its stored weights, else N(0, 0.02) from its name."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.grad = None
            bare = name.removeprefix("roberta.")
            if stored is not None and bare in stored.files:
                parameter.copy_(stored[bare])
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.02, generator=generator))


@contextmanager
def first_gradients(parameters: dict[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """The clipped gradients that the first optimizer step inside sees."""
    found: dict[str, Tensor] = {}

    def keep(optimizer: Any, args: Any, kwargs: Any) -> None:
        if not found:
            found.update({n: p.grad.detach().float().clone() for n, p in parameters.items() if p.grad is not None})

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


class Ours:
    """The engine as a training stage uses it: its own loop, packed, only the embedding rows that occur."""

    fill = 1.0

    def __init__(
        self,
        size: Size,
        rows: Rows,
        method: str,
        precision: Any,
        clock: Clock,
        engine: EngineSettings,
        dropout: bool = False,
    ) -> None:
        self.size, self.rows, self.clock, self.dropout = size, rows, clock, dropout
        self.arrays = arrays(rows)
        base = load_base(str(checkpoint(size)), precision, used=[self.arrays.ids] if engine.compact else None)
        leaf = LeafWeights(resolve(METHODS[method]))
        self.adapted = Adapted(base, {"a": leaf}, Leaf("a"), train=frozenset("a"), engine=engine)
        self.head = build_head("classification", size.width, LABELS)

    def parameters(self) -> dict[str, nn.Parameter]:
        named = [*self.adapted.model.named_parameters(), *self.head.named_parameters()]
        return {shared_name(name): p for name, p in named if p.requires_grad}

    def losses(self, updates: int) -> list[float]:
        settings = TrainSettings(
            steps=updates,
            batch=len(self.rows),
            warmup=0.0,
            weight_decay=DECAY,
            clip=CLIP,
            checkpoints=0,
            base_dropout=self.dropout,
        )
        share = Share(self.arrays, np.arange(len(self.rows)), "head")
        schedule = make_schedule([len(self.rows)], settings, seed=0)
        with tempfile.TemporaryDirectory() as work:
            made = fit(
                self.adapted,
                {"head": self.head},
                [share],
                schedule,
                settings,
                learning_rate=RATE,
                seed=0,
                work=Path(work),
                score=lambda: 0.0,
                progress=lambda fraction, text: None,
            )
        return [row["loss"] for row in made.metrics]

    def restart(self) -> None:
        reset(self.parameters())

    def turn(self, updates: int) -> float:
        self.restart()
        start = self.clock()
        self.losses(updates)
        return (self.clock() - start) / updates / tokens(self.rows) * 1000

    def hidden(self) -> Tensor | None:
        made = self.arrays
        batch = collate(made.ids, made.rows, made.examples, {}, range(len(self.rows)), pad_id=PAD)
        with torch.no_grad():
            states = self.adapted.encode(batch)
        spans = zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)
        return torch.cat([states[start : start + length] for start, length in spans])


def peer_model(size: Size, method: str, dtype: torch.dtype = torch.float32, dropout: bool = False) -> Any:
    """The libraries' own model: adapters ``seq_bn``, peft ``lora``, or the whole encoder (``full``)."""
    from transformers import XLMRobertaForSequenceClassification

    off = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = XLMRobertaForSequenceClassification.from_pretrained(
        checkpoint(size), attn_implementation="sdpa", num_labels=LABELS, **off
    )
    chosen = METHODS[method].parameters if method in METHODS else {}
    if method == "seq_bn":
        import adapters

        adapters.init(model)
        model.add_adapter("peer", config=adapters.SeqBnConfig(reduction_factor=chosen["reduction"]))
        model.train_adapter("peer")
    elif method == "lora":
        from peft import LoraConfig, get_peft_model

        rank, alpha, sites = (chosen[name] for name in ("r", "alpha", "sites"))
        made = LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=alpha, target_modules=sites)
        model = get_peft_model(model, made)
    return model.to(dtype)


class Peer:
    """A library's model inside Trainer.

    Args:
        width: what every row is padded to; None: the longest of its batch.
        batches: the rows of each update, one after the other; all with the same number of rows.
        stored: the checkpoint that a model starts from again when the whole of it trains.
    """

    def __init__(
        self,
        model: Any,
        batches: Sequence[Rows],
        width: int | None,
        autocast: bool,
        clock: Clock,
        stored: Path | None = None,
    ) -> None:
        self.model, self.batches, self.width, self.autocast, self.clock = model, batches, width, autocast, clock
        self.stored = None if stored is None else Weights(stored)
        padded = sum(len(rows) * (width or max(map(len, rows))) for rows in batches)
        self.fill = sum(map(tokens, batches)) / padded

    def restart(self) -> None:
        reset(self.parameters(), self.stored)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {shared_name(name): p for name, p in self.model.named_parameters() if p.requires_grad}

    def _collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        width = self.width or max(len(item["ids"]) for item in items)
        ids = np.full((len(items), width), PAD, dtype=np.int64)
        for row, item in zip(ids, items, strict=True):
            row[: len(item["ids"])] = item["ids"]
        labels = torch.tensor([item["label"] for item in items])
        made = torch.from_numpy(ids)
        return {"input_ids": made, "attention_mask": (made != PAD).long(), "labels": labels}

    def _trained(self, updates: int) -> tuple[float, list[float]]:
        from torch.utils.data import SequentialSampler
        from transformers import Trainer, TrainerCallback, TrainingArguments

        clock = self.clock
        gc.collect()  # the last Trainer and its optimizer lie in a cycle: 4.4 GB when a whole encoder trains

        class Timed(TrainerCallback):  # type: ignore[misc]
            began = ended = 0.0

            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                self.began = clock()

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                self.ended = clock()

        seen: list[float] = []

        class InOrder(Trainer):  # type: ignore[misc]
            def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
                loss = super().compute_loss(*args, **kwargs)
                seen.append(float(loss.detach()))
                return loss

            def _get_train_sampler(self, *args: Any) -> Any:
                return SequentialSampler(self.train_dataset)

        items = [
            {"ids": row, "label": number % LABELS}
            for update in range(updates)
            for number, row in enumerate(self.batches[update % len(self.batches)])
        ]
        # Trainer leaves the last run's autocast in the environment, where the next one in this process finds it.
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if self.autocast else "no"
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                per_device_train_batch_size=len(self.batches[0]),
                max_steps=updates,
                learning_rate=RATE,
                weight_decay=DECAY,
                max_grad_norm=CLIP,
                logging_strategy="no",
                bf16=self.autocast,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                dataloader_pin_memory=False,
                remove_unused_columns=False,
            )
            timed = Timed()
            trainer = InOrder(
                self.model, arguments, data_collator=self._collate, train_dataset=items, callbacks=[timed]
            )
            trainer.pop_callback(_printer())
            trainer.train()
        return timed.ended - timed.began, seen

    def losses(self, updates: int) -> list[float]:
        return self._trained(updates)[1]

    def turn(self, updates: int) -> float:
        updates = max(updates, len(self.batches))
        self.restart()
        real = sum(tokens(self.batches[update % len(self.batches)]) for update in range(updates))
        return self._trained(updates)[0] / real * 1000

    def hidden(self) -> Tensor | None:
        made = self._collate([{"ids": row, "label": 0} for row in self.batches[0]])
        encoder = next(m for n, m in self.model.named_modules() if n.split(".")[-1] == "roberta")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            states = encoder(input_ids=made["input_ids"], attention_mask=made["attention_mask"]).last_hidden_state
        return states[made["attention_mask"].bool()].float()


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def of_similar_length(pool: Rows, examples: int, batches: int) -> list[list[NDArray[np.int32]]]:
    """Updates as a length-grouping sampler draws them, evenly over the lengths of a pool."""
    order = sorted(pool, key=len)
    starts = [round((i + 0.5) / batches * (len(order) - examples)) for i in range(batches)]
    return [order[start : start + examples] for start in starts]
