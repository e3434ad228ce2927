"""Real sentences and a base pretrained on real text: our figures against a scorer of a few lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adapterstilts
from adapterstilts.api.places import open_store
from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.sources import resolve
from adapterstilts.tasks.registry import TaskRegistry

FAST = ["te", "jv"]
LAYER = 2


def languages() -> list[Any]:
    """All 41 of XTREME-R; two of them fast."""
    every = TaskRegistry([]).get("tatoeba").languages
    assert len(every) == 41
    return [*FAST, *slow(*(code for code in every if code not in FAST))]


def slow(*codes: str) -> list[Any]:
    return [pytest.param(code, marks=pytest.mark.slow) for code in codes]


@pytest.fixture(scope="module")
def store(shared_data: Path, shared_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one module, briefly trained on English COPA: far enough to change every neighbour list."""
    place = tmp_path_factory.mktemp("shared") / "store"
    settings = {"epochs": 1, "learning_rate": 1e-3}
    adapterstilts.train(
        "copa", name="copa", base=str(shared_base), limit=64, settings=settings, data=shared_data, store=place
    )
    return place


def plain_vectors(base: Path, module: Path | None, texts: list[str]) -> Any:
    """transformers and peft themselves, padded, mean over the attention mask; [sentences, d] of length 1."""
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModel.from_pretrained(base)
    if module is not None:
        model = PeftModel.from_pretrained(model, module)
    model.eval()
    parts = []
    for start in range(0, len(texts), 50):
        part = texts[start : start + 50]
        batch = tokenizer(part, padding=True, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**batch, output_hidden_states=True).hidden_states[LAYER]
        mask = batch["attention_mask"][..., None]
        parts.append((hidden * mask).sum(1) / mask.sum(1))
    vectors = torch.cat(parts).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def adapter(store: Path) -> Path:
    """The module as plain peft reads it."""
    opened = open_store(store)
    (found,) = opened.path(opened.resolve("copa")).rglob("adapter_config.json")
    return found.parent


@pytest.mark.parametrize("language", languages())
def test_tatoeba_agrees_with_a_few_lines(language: str, shared_data: Path, shared_base: Path, store: Path) -> None:
    rows = adapterstilts.retrieve(
        "tatoeba", modules=["copa"], languages=[language], layers=[LAYER], data=shared_data, store=store
    )
    data = load_bitext(resolve(TaskRegistry([]).get("tatoeba"), language, "test", shared_data))
    order = {name: row for row, (name, _) in enumerate(data["source"])}
    gold = dict((english, order[foreign]) for foreign, english in data["gold"] or ())
    for arm, module in (("base", None), ("copa", adapter(store))):
        ours = next(r for r in rows if (r["arm"], r["metric"], r["variant"]) == (arm, "accuracy", "raw"))
        foreign, english = (
            plain_vectors(shared_base, module, [text for _, text in data[side]])  # type: ignore[literal-required]
            for side in ("source", "target")
        )
        right = (english @ foreign.T).argmax(axis=1) == [gold[name] for name, _ in data["target"]]
        assert ours["n"] == len(gold) == len(right)
        assert ours["value"] == pytest.approx(100 * right.mean(), abs=1e-6)


def plain_mining(x: Any, y: Any, names: tuple[list[str], list[str]]) -> list[tuple[float, tuple[str, str]]]:
    """Ratio margin over 4 neighbours, both directions, greedy; sentences that occur once only."""
    cosines = x.astype(np.float64) @ y.T.astype(np.float64)
    near = [np.argsort(-side, axis=1, kind="stable")[:, :4] for side in (cosines, cosines.T)]
    means = [np.take_along_axis(c, k, 1).mean(1) for c, k in zip((cosines, cosines.T), near, strict=True)]
    score = cosines / ((means[0][:, None] + means[1]) / 2)
    best = [(max(near[0][i], key=lambda j: score[i, j]), i) for i in range(len(x))]
    pairs = [(score[i, j], i, j) for j, i in best]
    pairs += [(score[i, j], i, j) for j in range(len(y)) for i in [max(near[1][j], key=lambda i: score[i, j])]]
    used: tuple[set[int], set[int]] = set(), set()
    found = []
    for value, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            found.append((value, (names[0][i], names[1][j])))
    return found


@pytest.mark.parametrize("language", ["de", *slow("fr", "ru", "zh")])
def test_bucc_agrees_with_a_few_lines(language: str, shared_data: Path, shared_base: Path, store: Path) -> None:
    """The threshold of dev applied to test, with and without the module."""
    limit = 500
    rows = adapterstilts.retrieve(
        "bucc2018",
        modules=["copa"],
        languages=[language],
        layers=[LAYER],
        limit=limit,
        data=shared_data,
        store=store,
    )
    for arm, module in (("base", None), ("copa", adapter(store))):
        mined, golds = {}, {}
        for split in ("dev", "test"):
            data = load_bitext(resolve(TaskRegistry([]).get("bucc2018"), language, split, shared_data))
            sides = []
            for side in ("source", "target"):
                lines = data[side][:limit]  # type: ignore[literal-required]
                often = Counter(text.strip() for _, text in lines)
                sides.append([(name, text) for name, text in lines if often[text.strip()] == 1])
                assert len(sides[-1]) == len(lines)  # no duplicates here: they have tests of their own
            x, y = (plain_vectors(shared_base, module, [text for _, text in lines]) for lines in sides)
            names = [name for name, _ in sides[0]], [name for name, _ in sides[1]]
            mined[split] = plain_mining(x, y, names)
            known = set(names[0]), set(names[1])
            golds[split] = {(s, t) for s, t in data["gold"] or () if s in known[0] and t in known[1]}
        assert len(golds["dev"]) > 10 and len(golds["test"]) > 10
        best, threshold, right = 0.0, 0.0, 0
        for count, (score, pair) in enumerate(mined["dev"], start=1):
            right += pair in golds["dev"]
            if 200 * right / (count + len(golds["dev"])) > best:
                best = 200 * right / (count + len(golds["dev"]))
                threshold = (score + mined["dev"][count][0]) / 2 if count < len(mined["dev"]) else score
        taken = {pair for score, pair in mined["test"] if score >= threshold}
        f1 = 200 * len(taken & golds["test"]) / (len(taken) + len(golds["test"]))
        ours = {
            row["split"]: row["value"]
            for row in rows
            if (row["arm"], row["metric"], row["variant"]) == (arm, "f1", "raw")
        }
        assert ours == {"dev": pytest.approx(best, abs=1e-6), "test": pytest.approx(f1, abs=1e-6)}


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
