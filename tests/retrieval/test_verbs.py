"""mine, nearest, embed and tune-layer end to end, as functions and as commands."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

import adapterstilts
from adapterstilts import lab
from adapterstilts.api import encoding
from adapterstilts.api.retrieval import nearest_stream
from adapterstilts.api.tuning import tune_layer
from adapterstilts.cli.root import root
from adapterstilts.errors import BudgetError, DataError, RecipeError

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lab_base: Path) -> Path:
    """Two files of the lab's sentences, source.txt and target.txt, and the pairs that are true."""
    place = tmp_path_factory.mktemp("own")
    made = lab.bitext("lab-bucc", "qaa", "dev", 200, seed=0)
    texts = {side: dict(made[side]) for side in ("source", "target")}
    for side in texts:
        lines = list(texts[side].values())
        lines[3:3] = ["", "  "]  # empty lines are no sentences, and keep the others' numbers
        lines.append(lines[0])
        (place / f"{side}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    gold = [f"{texts['source'][s]}\t{texts['target'][t]}" for s, t in made["gold"]]
    (place / "gold.tsv").write_text("\n".join(gold) + "\n", encoding="utf-8")
    return place


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ADAPTERSTILTS_STORE", str(folder / "store"))

    def invoke(*arguments: str, code: int = 0, input: str | None = None) -> Result:
        result = CliRunner().invoke(root, [*arguments, "--base", "lab/s0"], input=input)
        assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    return invoke


def lines(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_mine_writes_score_source_target(command: Command, folder: Path) -> None:
    found = lines(command("mine", "source.txt", "target.txt").stdout)
    scores = [float(score) for score, _, _ in found]
    assert len(found) > 50 and scores == sorted(scores, reverse=True)
    sources = set((folder / "source.txt").read_text().splitlines())
    assert all(source in sources and source for _, source, _ in found)
    assert len({source for _, source, _ in found}) == len(found)  # each sentence once
    # The same with line numbers: one line of text may stand on several lines of the file.
    numbers = lines(command("mine", "source.txt", "target.txt", "--numbers").stdout)
    at = {name: (folder / f"{name}.txt").read_text().split("\n") for name in ("source", "target")}
    named = {(at["source"][int(i) - 1], at["target"][int(j) - 1]) for _, i, j in numbers}
    assert named == {(source, target) for _, source, target in found}
    assert len(numbers) >= len(found)


def test_mine_to_a_file_says_how(command: Command, folder: Path) -> None:
    done = command("mine", "source.txt", "target.txt", "--top", "7", "--out", "top.tsv", "--format", "json")
    facts = json.loads(done.stdout)
    assert facts["pairs"] == 7 == len(lines((folder / "top.tsv").read_text()))
    assert (facts["how"], facts["layer"], facts["pooling"], facts["search_recall"]) == ("one_pass", 2, "mean", 1.0)
    assert not list(folder.glob(".top.tsv*"))


def test_a_threshold_from_gold_pairs(command: Command, folder: Path) -> None:
    gold = {tuple(pair) for pair in lines((folder / "gold.tsv").read_text())}

    def mined(*options: str) -> tuple[dict[str, float], list[tuple[str, ...]]]:
        where = ("--gold", "gold.tsv", "--out", "p.tsv", "--format", "json")
        done = command("mine", "source.txt", "target.txt", *where, *options)  # a later --gold wins
        return json.loads(done.stdout), [tuple(row[1:]) for row in lines((folder / "p.tsv").read_text())]

    best, pairs = mined()
    strict, fewer = mined("--precision", "90")
    judged = [pair for pair in fewer if pair[0] in {s for s, _ in gold} or pair[1] in {t for _, t in gold}]
    right = sum(pair in gold for pair in judged)
    assert 100 * right / len(judged) >= 90
    assert strict["precision"] == pytest.approx(100 * right / len(judged))
    assert best["f1"] >= strict["f1"]
    assert set(fewer) <= set(pairs) or strict["threshold"] < best["threshold"]
    # What mine writes can be its gold; then everything above the lowest score is right.
    (folder / "own.tsv").write_text("\n".join("\t".join(("1.0", *pair)) for pair in pairs))
    again, _ = mined("--gold", "own.tsv", "--precision", "100")
    assert again["pairs"] >= len(pairs) and again["precision"] == 100


def test_duplicates_are_kept_or_dropped(folder: Path) -> None:
    where = {"base": "lab/s0", "store": folder / "store"}
    twice = (folder / "source.txt").read_text().splitlines()[0]
    kept = adapterstilts.mine(folder / "source.txt", folder / "target.txt", **where).pairs
    dropped = adapterstilts.mine(folder / "source.txt", folder / "target.txt", duplicates="drop", **where).pairs
    lines_of = {pair.source: pair.source_lines for pair in kept}
    assert lines_of.get(twice) is None or len(lines_of[twice]) == 2
    assert twice not in {pair.source for pair in dropped}
    assert {pair.source for pair in dropped} <= set(lines_of)


@pytest.mark.parametrize(("how", "index"), [("faiss", None), ("one_pass", None), ("bf16", None), ("auto", "Flat")])
def test_every_exact_way_mines_the_same(how: str, index: str | None, folder: Path) -> None:
    where = {"base": "lab/s0", "store": folder / "store", "layer": 3}
    plain = adapterstilts.mine(folder / "source.txt", folder / "target.txt", **where)
    found = adapterstilts.mine(folder / "source.txt", folder / "target.txt", how=how, index=index, **where)  # type: ignore[arg-type]
    assert [(p.source, p.target) for p in found.pairs] == [(p.source, p.target) for p in plain.pairs]
    assert found.facts["how"] == (index or how)


def test_centred_vectors_are_searched_where_asked(command: Command, folder: Path) -> None:
    from adapterstilts.retrieval.mining import mine
    from adapterstilts.retrieval.neighbours import center
    from adapterstilts.retrieval.search import search

    where = {"base": "lab/s0", "store": folder / "store", "kind": "fp32"}
    texts = [
        sorted({t.strip() for t in (folder / f"{s}.txt").read_text().split("\n")} - {""}) for s in ("source", "target")
    ]
    found = adapterstilts.mine(*texts, centre=True, **where)
    x, y = (center(adapterstilts.embed(side, **where)) for side in texts)
    mined = mine(search(x, y, 4))
    assert [(p.source, p.target) for p in found.pairs] == [
        (texts[0][i], texts[1][j]) for i, j in zip(mined.source.tolist(), mined.target.tolist(), strict=True)
    ]
    hits = adapterstilts.nearest(texts[1], texts[0], k=len(texts[1]) + 5, centre=True, **where)
    assert hits.facts["centred"] and hits.indices.shape == (len(texts[0]), len(texts[1]))  # k > n
    np.testing.assert_array_equal(hits.indices[:, 0], (x @ y.T).argmax(axis=1))
    command("nearest", "target.txt", "--queries", "-", "--centre", code=2, input="lu\n")
    with pytest.raises(BudgetError, match="centred"):
        adapterstilts.mine(*texts, centre=True, max_memory="1MB", **where)


def test_a_sentence_set_against_itself(folder: Path) -> None:
    texts = sorted(set((folder / "source.txt").read_text().split("\n")) - {""})[:60]
    found = adapterstilts.mine(texts, texts, base="lab/s0", store=folder / "store", margin="absolute")
    assert {(p.source, p.target) for p in found.pairs} == {(text, text) for text in texts if text.strip()}
    alone = adapterstilts.mine(texts[-1:], texts[-1:], base="lab/s0", store=folder / "store")
    assert [p.score for p in alone.pairs] == [pytest.approx(1)]


def test_nearest_by_file_and_by_stream(command: Command, folder: Path) -> None:
    queries = [text for text in (folder / "source.txt").read_text().split("\n") if text.strip()][:5]
    (folder / "queries.txt").write_text("\n".join(queries) + "\n")
    by_file = lines(command("nearest", "target.txt", "--queries", "queries.txt", "-k", "3").stdout)
    stream = command("nearest", "target.txt", "--queries", "-", "-k", "3", "--batch", "2", input="\n".join(queries))
    by_stream = lines(stream.stdout)
    assert len(by_file) == 15 and [row[1:] for row in by_file] == [row[1:] for row in by_stream]
    np.testing.assert_allclose(
        [float(row[0]) for row in by_file], [float(row[0]) for row in by_stream], atol=2e-3
    )  # the queries of a file are stored in half precision
    assert [row[1] for row in by_file[::3]] == queries
    hits = adapterstilts.nearest(folder / "target.txt", queries, k=3, base="lab/s0", store=folder / "store")
    assert hits.indices.shape == (5, 3) and (np.diff(hits.similarities, axis=1) <= 0).all()


def test_a_stream_answers_before_it_ends(folder: Path) -> None:
    texts = [text for text in (folder / "target.txt").read_text().split("\n") if text.strip()]

    def endless() -> io.TextIOBase | object:
        while True:
            yield texts[7]

    found = nearest_stream(folder / "target.txt", endless(), base="lab/s0", store=folder / "store", batch=1)  # type: ignore[arg-type]
    query, hits = next(found)
    assert query == hits[0][1] == texts[7] and hits[0][0] == pytest.approx(1, abs=1e-3)


def test_embed_writes_what_the_encoder_says(command: Command, folder: Path) -> None:
    command("embed", "source.txt", "--layer", "3", "--out", "e.npy")
    texts = [line.strip() for line in (folder / "source.txt").read_text().removesuffix("\n").split("\n")]
    expected = adapterstilts.load("base", base="lab/s0").encode(texts, layer=3)
    np.testing.assert_array_equal(np.load(folder / "e.npy"), expected)
    command("embed", "-", "--layer", "3", "--out", "f.npy", input=(folder / "source.txt").read_text())
    np.testing.assert_array_equal(np.load(folder / "f.npy"), expected)
    for kind in ("fp32", "fp16"):
        command("embed", "source.txt", "--layer", "3", "--type", kind, "--out", f"{kind}.parquet")
        table = pyarrow.parquet.read_table(folder / f"{kind}.parquet")
        assert table["sentence"].to_pylist() == texts
        found = np.array([row.values.to_numpy() for row in table["embedding"]])
        assert found.dtype == {"fp32": np.float32, "fp16": np.float16}[kind]
        np.testing.assert_array_equal(found, expected.astype(found.dtype))
    cls = adapterstilts.embed(folder / "source.txt", layer=4, pooling="cls", base="lab/s0", store=folder / "store")
    np.testing.assert_array_equal(cls, adapterstilts.load("base", base="lab/s0").encode(texts, pooling="cls"))


def test_embeddings_are_reused_without_the_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"base": "lab/s0", "store": folder / "store", "layer": 1}
    first = adapterstilts.embed(folder / "source.txt", **where)
    monkeypatch.setattr(encoding, "_together", lambda *_: pytest.fail("the encoder was loaded"))
    np.testing.assert_array_equal(adapterstilts.embed(folder / "source.txt", **where), first)


def test_wrong_uses_are_one_clear_error(command: Command, folder: Path) -> None:
    (folder / "empty.txt").write_text("\n\n")
    assert "no file" in command("mine", "absent.txt", "target.txt", code=3).stderr
    assert "without sentences" in command("mine", "empty.txt", "target.txt", code=3).stderr
    assert "--max-memory" in command("mine", "source.txt", "target.txt", "--max-memory", "90MB", code=4).stderr
    assert "no layer 9" in command("mine", "source.txt", "target.txt", "--layer", "9", code=2).stderr
    assert "no amount of memory" in command("mine", "source.txt", "target.txt", "--max-memory", "much", code=2).stderr
    assert "--gold" in command("mine", "source.txt", "target.txt", "--precision", "9", code=2).stderr
    assert "FAISS cannot make" in command("mine", "source.txt", "target.txt", "--index", "what", code=3).stderr
    (folder / "bad.tsv").write_text("a\tb\tc\td\n")
    assert "bad.tsv:1" in command("mine", "source.txt", "target.txt", "--gold", "bad.tsv", code=3).stderr
    with pytest.raises(BudgetError):
        adapterstilts.embed(["lu"], base="lab/s0", store=folder / "store", max_memory="1MB")
    with pytest.raises(DataError, match="no threshold"):
        adapterstilts.mine(["lu"], ["tesi"], gold=[("lu", "x")], precision=90, base="lab/s0", store=folder / "store")


def test_tune_layer_on_dev_data_only(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterstilts.data import sources

    asked: list[str] = []
    resolve = sources.resolve
    monkeypatch.setattr(sources, "resolve", lambda *a: asked.append(a[2]) or resolve(*a))
    done = command("retrieve", "tune-layer", "lab-bucc", "--languages", "qaa,qab", "--limit", "150", "--format", "json")
    tuned = json.loads(done.stdout)
    assert set(asked) == {"dev"}
    grid = {(row["layer"], row["pooling"], row["variant"]): row for row in tuned["grid"]}
    assert len(grid) == 5 * 2 * 2 and all(set(row["languages"]) == {"qaa", "qab"} for row in tuned["grid"])
    raw = {key: row["value"] for key, row in grid.items() if key[2] == "raw"}
    assert tuned["value"] == max(raw.values()) == raw[tuned["layer"], tuned["pooling"], "raw"]
    assert {row["layer"] for row in tuned["grid"] if row["published"]} == {2, 3}  # 10, 14 and 20 of 24, in 4 layers
    record = json.loads(Path(tuned["recorded"]).read_text())
    assert record["data"]["split"] == "dev" and record["layer"] == tuned["layer"]
    facts = command("mine", "source.txt", "target.txt", "--layer", "tuned", "--out", "t.tsv", "--format", "json")
    assert json.loads(facts.stdout)["layer"] == tuned["layer"]


def test_tune_layer_on_pairs_of_ones_own(folder: Path) -> None:
    texts = [text for text in (folder / "target.txt").read_text().split("\n") if text.strip()][:40]
    tuned = tune_layer(pairs=(texts, texts), base="lab/s0", store=folder / "other", poolings=["mean"])
    assert (tuned.value, tuned.layer, tuned.data["split"]) == (100.0, 0, "pairs")
    with pytest.raises(DataError, match="40 and 39 lines"):
        tune_layer(pairs=(texts, texts[1:]), base="lab/s0", store=folder / "other")


def test_a_task_without_dev_split_needs_held_out_languages(folder: Path) -> None:
    with pytest.raises(RecipeError, match="no development split"):
        tune_layer("tatoeba", base="lab/s0", store=folder / "store")
    with pytest.raises(RecipeError, match="no bitext task"):
        tune_layer("lab-nli", base="lab/s0", store=folder / "store")
    with pytest.raises(RecipeError, match="no layer was tuned"):
        adapterstilts.mine(["a"], ["b"], layer="tuned", base="lab/s0", store=folder / "empty")


def test_an_interrupted_retrieve_goes_on_with_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterstilts.stages import retrieve as stage

    embedded: list[str] = []
    resumed: list[str] = []
    embed_stored = stage.embed_stored

    def watched(adapted: object, arrays: object, directory: Path, *rest: object, **more: object) -> object:
        embedded.append(directory.parent.parent.name)
        if embedded.count("qab") == 2 and "qab" not in resumed:
            raise MemoryError("stopped")
        return embed_stored(adapted, arrays, directory, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(stage, "embed_stored", watched)
    asked = {"languages": ["qaa", "qab"], "layers": [1], "limit": 60, "base": "lab/s0"}
    with pytest.raises(Exception, match="stopped"):
        adapterstilts.retrieve("lab-tatoeba", store=tmp_path / "killed", **asked)  # type: ignore[arg-type]
    assert set(embedded) == {"qaa", "qab"}
    resumed.append("qab")
    embedded.clear()
    rows = adapterstilts.retrieve("lab-tatoeba", store=tmp_path / "killed", **asked)  # type: ignore[arg-type]
    assert set(embedded) == {"qab"}
    monkeypatch.undo()
    whole = adapterstilts.retrieve("lab-tatoeba", store=tmp_path / "whole", **asked)  # type: ignore[arg-type]
    assert [row["value"] for row in rows] == [row["value"] for row in whole]
    assert not list((tmp_path / "killed" / "work").glob("*"))
