"""Pretraining of the lab's bases: a tokenizer and a tiny XLM-R, from the world's raw text.

Masked words plus translation pairs, as in XLM. The number of steps is fixed, so one thread and
one seed give the same weights again on the same machine.

    adapterstilts lab pretrain --seed 0 --out DIR
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from adapterstilts import lab
from adapterstilts.lab.corpus import parallel_document, raw_document

BOS, PAD, EOS, UNK, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
PAD_ID = 1
FIRST_WORD_ID = 4
MAX_TOKENS = 128
CHUNK = 6000  # documents that are sorted by length together
HELD_OUT = 300  # documents or sentence pairs per language in `quality`

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides the weights. The defaults are those of the shipped bases."""

    languages: tuple[str, ...] = tuple(lab.LANGUAGES)
    layers: int = 4
    hidden: int = 96
    heads: int = 4
    vocab: int = 4000
    steps: int = 10_000
    tokens_per_batch: int = 1000
    lr: float = 2e-3  # 4e-3 gets stuck at the word frequencies
    warmup: int = 150
    hold: float = 0.3  # share of the steps before the linear decay
    mask_share: float = 0.25
    tlm_share: float = 0.3
    tokenizer_documents: int = 6000  # per language
    seed: int = 0


# The sizes of the lab's bases (layers, hidden): what `scale` compares. They read the same text for as many updates.
SIZES: dict[str, dict[str, int]] = {
    "small": {"layers": 2, "hidden": 48},
    "medium": {"layers": 3, "hidden": 64},
    "large": {"layers": 4, "hidden": 96},
}


@dataclass(frozen=True)
class Sequence:
    """Token ids; from index `restart` on the positions start again (translation pairs)."""

    ids: list[int]
    restart: int = 0


def train_tokenizer(config: PretrainConfig) -> PreTrainedTokenizerFast:
    """BPE over words with Metaspace. It depends on the languages, not on the seed."""
    rng = random.Random("tokenizer")
    texts = [" ".join(raw_document(code, rng)) for code in config.languages for _ in range(config.tokenizer_documents)]
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=config.vocab, special_tokens=[BOS, PAD, EOS, UNK], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([MASK])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}",
        pair=f"{BOS} $A {EOS} {EOS} $B {EOS}",
        special_tokens=[(BOS, 0), (EOS, 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        cls_token=BOS,
        sep_token=EOS,
        unk_token=UNK,
        pad_token=PAD,
        mask_token=MASK,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_model(config: PretrainConfig, vocabulary: int) -> XLMRobertaForMaskedLM:
    """A fresh encoder of the configured shape."""
    return XLMRobertaForMaskedLM(
        XLMRobertaConfig(
            vocab_size=vocabulary,
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=4 * config.hidden,
            max_position_embeddings=MAX_TOKENS + 2,
            type_vocab_size=1,
            pad_token_id=PAD_ID,
            bos_token_id=0,
            eos_token_id=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            layer_norm_eps=1e-5,
        )
    )


def encode_documents(
    tokenizer: PreTrainedTokenizerFast, documents: list[list[str]], rng: random.Random
) -> list[Sequence]:
    """Half of the documents as one text, half as a pair of texts, as the labelled tasks are."""
    encode = tokenizer.backend_tokenizer.encode_batch
    single, pairs = [], []
    for sentences in documents:
        if len(sentences) == 1 or rng.random() < 0.5:
            single.append(" ".join(sentences))
        else:
            cut = rng.randrange(1, len(sentences))
            pairs.append((" ".join(sentences[:cut]), " ".join(sentences[cut:])))
    return [Sequence(e.ids) for e in [*encode(single), *encode(pairs)]]


def encode_translations(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]], rng: random.Random
) -> list[Sequence]:
    """Translation pairs, either language first."""
    turned = [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs]
    encoded = tokenizer.backend_tokenizer.encode_batch(turned)
    return [Sequence(e.ids, restart=e.ids.index(2) + 1) for e in encoded]


def batches(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[list[Sequence]]:
    """Endless batches of about equal length and at most `tokens_per_batch` tokens, padding too."""
    codes = config.languages
    foreign = [c for c in codes if c != "en"]
    translations = round(CHUNK * config.tlm_share) if foreign else 0
    while True:
        documents = [raw_document(codes[i % len(codes)], rng) for i in range(CHUNK - translations)]
        pairs = [parallel_document(rng.choice(foreign), rng) for _ in range(translations)]
        rows = encode_documents(tokenizer, documents, rng)
        rows += encode_translations(tokenizer, pairs, rng)
        rows = [r for r in rows if len(r.ids) <= MAX_TOKENS]
        order = sorted(rows, key=lambda row: len(row.ids) + 3 * rng.random())
        chunk: list[list[Sequence]] = [[]]
        width = 0
        for row in order:
            width = max(width, len(row.ids))
            if chunk[-1] and (len(chunk[-1]) + 1) * width > config.tokens_per_batch:
                chunk.append([])
                width = len(row.ids)
            chunk[-1].append(row)
        rng.shuffle(chunk)
        yield from chunk


def collate(rows: list[Sequence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and position ids of a batch."""
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), PAD_ID, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
    restart = np.array([row.restart for row in rows])[:, None]
    positions = np.arange(width)[None, :]
    positions = positions - np.where(positions >= restart, restart, 0)
    positions = np.where(ids == PAD_ID, PAD_ID, positions + PAD_ID + 1)
    tokens = torch.from_numpy(ids)
    return tokens, (tokens != PAD_ID).long(), torch.from_numpy(positions)


def mask_tokens(
    tokens: torch.Tensor, share: float, mask_id: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens with a share hidden (80 % mask, 10 % random, 10 % kept), and where they were."""
    chosen = (torch.rand(tokens.shape, generator=generator) < share) & (tokens >= FIRST_WORD_ID)
    how = torch.rand(tokens.shape, generator=generator)
    hidden = torch.where(chosen & (how < 0.8), mask_id, tokens)
    noise = torch.randint(FIRST_WORD_ID, mask_id, tokens.shape, generator=generator)
    return torch.where(chosen & (how >= 0.9), noise, hidden), chosen


def masked_loss(
    model: XLMRobertaForMaskedLM,
    rows: list[Sequence],
    share: float,
    mask_id: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Cross-entropy of the hidden tokens; the vocabulary is scored at these only."""
    tokens, attention, positions = collate(rows)
    hidden, chosen = mask_tokens(tokens, share, mask_id, generator)
    states = model.roberta(hidden, attention_mask=attention, position_ids=positions)[0]
    return cross_entropy(model.lm_head(states[chosen]), tokens[chosen])


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Linear warm-up, a plateau, linear decay to 2 %."""
    done = step / config.steps
    decay = 1 - max(0.0, (done - config.hold) / (1 - config.hold))
    return config.lr * max(min(1.0, (step + 1) / config.warmup) * decay, 0.02)


def save(model: XLMRobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The checkpoint, weights in half precision (retrieval changes by at most 0.002)."""
    out.mkdir(parents=True, exist_ok=True)
    shared = ("lm_head.decoder.weight", "lm_head.decoder.bias")  # tied on loading
    weights = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if name not in shared and not name.endswith("position_ids")
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # the writer leaves it to the owner only
    model.config.architectures = ["XLMRobertaForMaskedLM"]
    model.config.dtype = torch.float32  # half precision on disk only
    model.config.save_pretrained(out)
    tokenizer.save_pretrained(out)


def pretrain(config: PretrainConfig, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train tokenizer and encoder, write the checkpoint to `out`, return what was measured."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    started = time.process_time()
    tokenizer = train_tokenizer(config)
    model = build_model(config, len(tokenizer)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(config.seed)
    source = batches(config, tokenizer, random.Random(f"pretrain-{config.seed}"))
    mask_id = int(tokenizer.mask_token_id)
    seen, average = 0, float("nan")
    for step in range(config.steps):
        rows = next(source)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = masked_loss(model, rows, config.mask_share, mask_id, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += sum(len(row.ids) for row in rows)
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        if progress is not None:
            progress(step + 1, config.steps, average)
    save(model, tokenizer, out)
    result = {
        "world_version": lab.WORLD_VERSION,
        "config": asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "tokens_seen": seen,
        "training_loss": round(average, 4),
        "cpu_seconds": round(time.process_time() - started, 1),
        "quality": quality(out),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    (out / "pretraining.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


@torch.no_grad()
def heldout_loss(model: XLMRobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, code: str) -> float:
    """Masked-word loss on documents of the test split, the same documents in every language."""
    documents = [
        [text for text in (example["text_a"], example["text_b"]) if text]
        for example in lab.generate("lab-mlm", code, "test", HELD_OUT)
    ]
    rows = encode_documents(tokenizer, documents, random.Random("held-out"))
    generator = torch.Generator().manual_seed(0)
    share = PretrainConfig.mask_share
    loss = masked_loss(model, rows, share, int(tokenizer.mask_token_id), generator)
    return round(loss.item(), 4)


@torch.no_grad()
def embed(model: XLMRobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Mean-pooled states: layers x texts x hidden."""
    tokens, attention, _ = collate([Sequence(e.ids) for e in tokenizer.backend_tokenizer.encode_batch(texts)])
    layers = model.roberta(tokens, attention_mask=attention, output_hidden_states=True)
    weight = attention[..., None] / attention.sum(1)[:, None, None]
    return torch.stack([(state * weight).sum(1) for state in layers.hidden_states[1:]])


def retrieval_accuracy(one: torch.Tensor, two: torch.Tensor) -> float:
    """Share of rows whose nearest row on the other side is their partner, both directions."""
    scores = normalize(one, dim=-1) @ normalize(two, dim=-1).T
    gold = torch.arange(len(scores))
    hits = (scores.argmax(1) == gold).float().mean() + (scores.argmax(0) == gold).float().mean()
    return round(hits.item() / 2, 4)


def quality(checkpoint: Path) -> dict[str, Any]:
    """Held-out masked-word loss, and retrieval against English per language and layer.

    Centred: each side has its own mean vector subtracted, which needs no labels.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = XLMRobertaForMaskedLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    codes = list(lab.LANGUAGES)
    result: dict[str, Any] = {"mlm_loss": {code: heldout_loss(model, tokenizer, code) for code in codes}}
    raw: dict[str, list[float]] = {}
    centred: dict[str, list[float]] = {}
    for code in codes[1:]:
        pairs = lab.bitext("lab-tatoeba", code, "test", HELD_OUT)
        sides = [embed(model, tokenizer, [t for _, t in pairs[s]]) for s in ("source", "target")]
        means = [side - side.mean(1, keepdim=True) for side in sides]
        raw[code] = [retrieval_accuracy(a, b) for a, b in zip(*sides, strict=True)]
        centred[code] = [retrieval_accuracy(a, b) for a, b in zip(*means, strict=True)]
    return {**result, "retrieval_raw": raw, "retrieval_centred": centred}
