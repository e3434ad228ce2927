"""Real sentences and a base pretrained on real text: our figures against a scorer of a few lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import adapterstilts
from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.sources import resolve
from adapterstilts.tasks.registry import TaskRegistry

LANGUAGES = ["te", "jv"]


def plain_accuracy(base: Path, foreign: list[str], english: list[str], gold: list[int], layer: int) -> float:
    """Padded transformers, mean over the attention mask, arg max of cosines: English to foreign, in percent."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModel.from_pretrained(base).eval()
    sides = []
    for texts in (foreign, english):
        parts = []
        for start in range(0, len(texts), 50):
            batch = tokenizer(texts[start : start + 50], padding=True, truncation=True, max_length=512, return_tensors="pt")  # noqa: E501  # fmt: skip
            with torch.no_grad():
                hidden = model(**batch, output_hidden_states=True).hidden_states[layer]
            mask = batch["attention_mask"][..., None]
            parts.append((hidden * mask).sum(1) / mask.sum(1))
        vectors = torch.cat(parts).numpy()
        sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return 100 * float(np.mean((sides[1] @ sides[0].T).argmax(axis=1) == np.array(gold)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_tatoeba_agrees_with_a_few_lines(language: str, shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    rows = adapterstilts.retrieve(
        "tatoeba", languages=[language], layers=[2], base=str(shared_base), data=shared_data, store=tmp_path
    )
    ours = next(row for row in rows if row["metric"] == "accuracy" and row["variant"] == "raw")
    data = load_bitext(resolve(TaskRegistry([]).get("tatoeba"), language, "test", shared_data))
    order = {name: row for row, (name, _) in enumerate(data["source"])}
    gold = dict((english, order[foreign]) for foreign, english in data["gold"] or ())
    expected = plain_accuracy(
        shared_base,
        [text for _, text in data["source"]],
        [text for _, text in data["target"]],
        [gold[name] for name, _ in data["target"]],
        2,
    )
    assert ours["value"] == pytest.approx(expected, abs=1e-6)


def test_mining_real_files(shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    """BUCC-like dev files with another scorer: pairs by their texts, F1 by hand."""
    place, limit = shared_data / "substitutes" / "bucc2018", 400
    sides = {}
    for side, code in (("source", "de"), ("target", "en")):
        rows = [line.split("\t", 1) for line in (place / f"de-en.dev.{code}").read_text().splitlines()[:limit]]
        (tmp_path / f"{side}.txt").write_text("\n".join(text for _, text in rows) + "\n")
        sides[side] = dict(rows)
    names = [line.split("\t") for line in (place / "de-en.dev.gold").read_text().splitlines()]
    gold = {
        (sides["source"][s].strip(), sides["target"][t].strip())
        for s, t in names
        if s in sides["source"] and t in sides["target"]
    }
    where = {"base": str(shared_base), "store": tmp_path / "store", "layer": 2, "kind": "fp32"}
    found = adapterstilts.mine(tmp_path / "source.txt", tmp_path / "target.txt", duplicates="drop", **where)
    best, right = 0.0, 0
    for count, pair in enumerate(found.pairs, start=1):
        right += (pair.source, pair.target) in gold
        best = max(best, 200 * right / (count + len(gold)))
    rows = adapterstilts.retrieve(
        "bucc2018",
        languages=["de"],
        layers=[2],
        limit=limit,
        base=str(shared_base),
        data=shared_data,
        store=tmp_path / "store",
    )
    official = next(r for r in rows if (r["metric"], r["split"], r["variant"]) == ("f1", "dev", "raw"))
    assert len(gold) > 10 and best > 0
    assert official["value"] == pytest.approx(best, abs=1e-9)
