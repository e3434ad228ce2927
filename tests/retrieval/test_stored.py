"""Embeddings on disk: what is stored, what is reused, and what a killed pass leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapterstilts.data.arrays import Arrays
from adapterstilts.data.sentences import tokenised
from adapterstilts.data.tokenise import Tokenizer
from adapterstilts.encoder.base import load_base
from adapterstilts.errors import DataError, StoreError
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.branches import Branch
from adapterstilts.modules.composition import Leaf
from adapterstilts.retrieval import stored as room
from adapterstilts.retrieval.embed import embed
from adapterstilts.retrieval.stored import Place, embed_branches, embed_stored, open_stored
from tests.modules.conftest import trained

IDENTITY = {"sentences": "these"}
TEXTS = [" ".join(["wamo", "tesi", "lu", "kanopi"][: 1 + i % 4] * (1 + i % 7)) for i in range(120)]


@pytest.fixture(scope="module")
def adapted(lab_base: Path) -> Adapted:
    return Adapted(load_base(str(lab_base)), {}, None)


@pytest.fixture(scope="module")
def arrays(lab_base: Path) -> Arrays:
    return tokenised(TEXTS, Tokenizer.from_directory(lab_base), 128)


def test_every_layer_and_pooling_as_in_memory(adapted: Adapted, arrays: Arrays, tmp_path: Path) -> None:
    made = embed_stored(adapted, arrays, tmp_path, [0, 2, 4], IDENTITY, poolings=["mean", "cls"], kind="fp32")
    for pooling in ("mean", "cls"):
        expected = embed(adapted, arrays, [0, 2, 4], pooling=pooling)  # type: ignore[arg-type]
        for place, layer in enumerate((0, 2, 4)):
            found = made.layer(layer, pooling)  # type: ignore[arg-type]
            assert isinstance(found, np.memmap)
            np.testing.assert_array_equal(found, expected[place])
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == sorted(
        ["manifest.json", *(f"{p}.{n}.npy" for p in ("mean", "cls") for n in (0, 2, 4))]
    )


def test_one_sentence_at_a_time_gives_the_same(adapted: Adapted, arrays: Arrays, tmp_path: Path) -> None:
    together = embed_stored(adapted, arrays, tmp_path / "a", [3], IDENTITY, kind="fp32").layer(3)
    alone = embed_stored(adapted, arrays, tmp_path / "b", [3], IDENTITY, kind="fp32", tokens=1).layer(3)
    np.testing.assert_allclose(alone, together, atol=2e-6)


def test_several_modules_in_one_pass(lab_base: Path, arrays: Arrays, tmp_path: Path) -> None:
    """The same vectors as each alone gives; a pass that was killed early for one of them goes on for both."""
    weights = {name: trained(load_base(str(lab_base)), "lora", k, layers=[2, 3]) for k, name in enumerate("ab")}
    both = Adapted(load_base(str(lab_base)), weights, None)
    places = [Place(tmp_path / name, {"module": name}, Branch(Leaf(name))) for name in "ab"]
    embed_branches(both, arrays, places[:1], [1], kind="fp32")  # one layer of one of them is there
    made = embed_branches(both, arrays, places, [1, 4], kind="fp32", tokens=200)
    for name, stored in zip("ab", made, strict=True):
        alone = Adapted(load_base(str(lab_base)), {name: weights[name]}, Leaf(name))
        for layer in (1, 4):
            expected = embed(alone, arrays, [layer])[0]
            np.testing.assert_allclose(stored.layer(layer), expected, atol=2e-6)
            assert open_stored(stored.directory, {"module": name}).has([1, 4], ["mean"])
    assert np.abs(made[0].layer(4) - made[1].layer(4)).max() > 0.01


def test_half_precision_is_the_rounded_value(adapted: Adapted, arrays: Arrays, tmp_path: Path) -> None:
    half = embed_stored(adapted, arrays, tmp_path, [4], IDENTITY).layer(4)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, embed(adapted, arrays, [4])[0].astype(np.float16))


def test_only_what_is_missing_is_embedded(
    adapted: Adapted, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_stored(adapted, arrays, tmp_path, [2], IDENTITY)
    before = (tmp_path / "mean.2.npy").stat().st_mtime_ns
    passes: list[int | None] = []
    states = Adapted.states

    def counted(self: Adapted, batch: object, stop: int | None = None) -> object:
        passes.append(stop)
        return states(self, batch, stop)  # type: ignore[arg-type]

    monkeypatch.setattr(Adapted, "states", counted)
    embed_stored(adapted, arrays, tmp_path, [2], IDENTITY)
    assert passes == []
    both = embed_stored(adapted, arrays, tmp_path, [1, 2], IDENTITY)
    assert set(passes) == {1}  # nothing above the missing layer is computed
    assert both.arrays == ("mean.1", "mean.2")
    assert (tmp_path / "mean.2.npy").stat().st_mtime_ns == before


def test_other_sentences_are_refused(adapted: Adapted, arrays: Arrays, tmp_path: Path) -> None:
    embed_stored(adapted, arrays, tmp_path, [1], IDENTITY)
    with pytest.raises(StoreError, match=r"embeddings of something else(.|\n)*sentences differs"):
        open_stored(tmp_path, {"sentences": "others"})
    with pytest.raises(StoreError, match=r"no embeddings `cls\.1`"):
        open_stored(tmp_path, IDENTITY).layer(1, "cls")
    (tmp_path / "mean.1.npy").write_bytes((tmp_path / "mean.1.npy").read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"no embeddings `mean\.1`"):
        open_stored(tmp_path, IDENTITY).layer(1)


def test_values_that_half_precision_cannot_hold_are_refused() -> None:
    with pytest.raises(DataError, match="fp32"):
        room._checked(np.array([[1e6]], np.float32), np.dtype(np.float16), "mean.1")
    with pytest.raises(DataError):
        room._checked(np.array([[np.nan]], np.float32), np.dtype(np.float32), "mean.1")


SCRIPT = """
import sys
from pathlib import Path
from adapterstilts.data.sentences import tokenised
from adapterstilts.data.tokenise import Tokenizer
from adapterstilts.encoder.base import load_base
from adapterstilts.modules.attach import Adapted
from adapterstilts.retrieval.stored import embed_stored
from tests.retrieval.test_stored import IDENTITY, TEXTS

base, place = map(Path, sys.argv[1:])
arrays = tokenised(TEXTS, Tokenizer.from_directory(base), 128)
adapted = Adapted(load_base(str(base)), {}, None)

def said(fraction):
    print(fraction, flush=True)
    sys.stdin.readline()  # waits: the parent decides how far this gets

embed_stored(adapted, arrays, place, [1, 4], IDENTITY, kind="fp32", tokens=100, every=0, progress=said)
"""


def test_a_killed_pass_goes_on_where_it_stopped(
    adapted: Adapted, arrays: Arrays, lab_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parent.parent.parent
    place = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(lab_base), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None and process.stdin is not None
    for _ in range(5):
        assert 0 < float(process.stdout.readline()) < 1
        process.stdin.write("\n")
        process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    assert not (place / "manifest.json").exists()
    assert open_stored(place, IDENTITY).arrays == ()
    done = json.loads((place / "partial" / "progress.json").read_text())["done"]
    assert done >= 5
    collated: list[int] = []
    collate = room.collate
    monkeypatch.setattr(room, "collate", lambda *a, **k: collated.append(len(a[4])) or collate(*a, **k))
    # A larger allowance of memory does not throw the finished batches away.
    made = embed_stored(adapted, arrays, place, [1, 4], IDENTITY, kind="fp32", tokens=4096, every=0)
    rest = len(collated)
    whole = embed_stored(adapted, arrays, tmp_path / "whole", [1, 4], IDENTITY, kind="fp32", tokens=100)
    assert rest == len(collated) - rest - done
    for layer in (1, 4):
        np.testing.assert_array_equal(made.layer(layer), whole.layer(layer))
    assert not (place / "partial").exists()
