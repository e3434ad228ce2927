"""Random damage to recipes, compositions and data files: a result or one clear error, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterstilts.api.planning import read_recipe
from adapterstilts.data.readers import READERS
from adapterstilts.errors import AdapterstiltsError, DataError
from adapterstilts.modules.expressions import format_tree, parse
from tests.bad_inputs.recipes import WHOLE
from tests.small_tasks import small_registry

CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Ada wrote. It ran.",
                    "sentence_breaks": [[0, 10], [11, 18]],
                    "qas": [{"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}],
                }
            ],
        }
    ]
}
COPA = '<c>\n<item id="1" asks-for="cause" most-plausible-alternative="1">\n<p>a</p><a1>b</a1><a2>c</a2></item>\n</c>\n'
MENTION = {
    "context": {"text": "The Nile is long.", "language": "en", "sentence_spans": [{"start": 0, "end": 17}]},
    "mentions": [{"example_id": "m", "mention_span": {"start": 4, "end": 8, "text": "Nile"}, "entity_id": "Q3392"}],
}
ROW = "# text = a b\n1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n"
SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "tsv": ("a\tb\n1\t2\n3\t4\n", {"header": True, "quoting": "csv"}),
    "csv": ('a,b\n1,"2, 3"\n3,4\n', {}),
    "jsonl": ('{"a": 1, "b": [2]}\n{"a": "x"}\n', {}),
    "json": ('{"n": {"x": 1}, "data": [{"a": 1}, {"a": "\\u00e9"}]}', {}),
    "squad": (json.dumps(SQUAD, indent=1), {}),
    "copa_xml": (COPA, {}),
    "conll": ("en:a\tX\nen:b\tY\n\nc\tX\n", {"strip_prefix": True}),
    "conllu": (ROW + "".join(f"{n}\t{w}\t_\tNOUN\t_\t_\t0\troot\t_\t_\n" for n, w in ((1, "a"), (2, "b"))) + "\n", {}),
    "lines": ("one\ntwo\n\nthree\n", {}),
    "pairs": ("id1\ttext\nid2\tmore\n", {}),
    "xquad_r": (json.dumps(SQUAD), {"split": "test", "language": "en"}),
    "mewsli": (json.dumps(MENTION) + "\n", {}),
}
PIECES = [
    "",
    "\t",
    "\n",
    "\r",
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "<",
    "&x;",
    "\ufeff",
    "\u2028",
    "null",
    "1e999",
]
PIECES += ["-", "#", "(", ")", "stack(", "*", "=", "{language}", "&a ", "*a", "!!int ", "- ", "? ", "\x00"]
PIECES += ["9" * 5000, "[" * 3000, "(" * 3000, "stack(" * 3000]


@st.composite
def damaged(draw: st.DrawFn, sample: str) -> bytes:
    """A text with a few pieces put in, cut out, doubled or replaced by anything, now and then by bytes of no text."""
    data = sample.encode()
    piece = st.sampled_from(PIECES).map(str.encode) | st.text(max_size=5).map(str.encode) | st.binary(max_size=4)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + draw(st.sampled_from([0, 1, 3, 20, 1000])))))
        data = data[:start] + draw(piece | st.just(data[start:end] * 2)) + data[end:]
    return data


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["en", "t-nli", "nli"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, sample: Any) -> Any:
    """Plain data with one value in it, at any depth, replaced, taken out or added."""
    if draw(st.integers(0, 3)) == 0 or not isinstance(sample, dict | list) or not sample:
        return draw(PLAIN)
    keys = list(sample) if isinstance(sample, dict) else list(range(len(sample)))
    key = draw(st.sampled_from(keys))
    new = {name: sample[name] for name in keys}
    action = draw(st.integers(0, 7))
    if action == 0:
        del new[key]
    elif action == 1 and isinstance(sample, dict):
        new[draw(st.text(max_size=6) | st.sampled_from(["extends", "vars", "matrix", "merge", "fuse", "on"]))] = draw(
            PLAIN
        )
    else:
        new[key] = draw(changed(sample[key]))
    return new if isinstance(sample, dict) else list(new.values())


def clear(attempt: Callable[[], object], kind: type[AdapterstiltsError] = AdapterstiltsError) -> None:
    """It works, or fails with an error of ours that says what is wrong."""
    try:
        attempt()
    except kind as error:
        assert error.what.strip() and str(error).strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_readers(name: str, tmp_path: Path) -> None:
    sample, options = SAMPLES[name]
    path = tmp_path / "file"
    path.write_text(sample, encoding="utf-8")
    assert list(READERS[name](path, options))
    assert SAMPLES.keys() == READERS.keys()

    @settings(max_examples=400, deadline=None, suppress_health_check=CALM)
    @given(damaged(sample))
    def holds(data: bytes) -> None:
        path.write_bytes(data)
        clear(lambda: list(READERS[name](path, options)), DataError)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squad", "xquad_r", "mewsli", "json", "jsonl"])
def test_readers_of_json_of_another_shape(name: str, tmp_path: Path) -> None:
    text, options = SAMPLES[name]
    path = tmp_path / "file"

    @settings(max_examples=400, deadline=None, suppress_health_check=CALM)
    @given(changed(json.loads(text.splitlines()[0] if name in ("mewsli", "jsonl") else text)))
    def holds(plain: Any) -> None:
        path.write_text(json.dumps(plain), encoding="utf-8")
        clear(lambda: list(READERS[name](path, options)), DataError)

    holds()


@pytest.mark.slow
def test_compositions() -> None:
    @settings(max_examples=2000, deadline=None, suppress_health_check=CALM)
    @given(damaged("stack(a, 0.5*fuse(b, {language}, how=attention), merge(c, d, how=ties, weights=[1, 2]))"))
    def holds(data: bytes) -> None:
        text = data.decode("utf-8", errors="replace")

        def there_and_back() -> None:
            tree = parse(text)
            assert parse(format_tree(tree)) == tree

        clear(there_and_back)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["text", "values"])
def test_recipes(how: str, tmp_path: Path) -> None:
    registry = small_registry(tmp_path / "tasks")
    path = tmp_path / "recipe.yaml"
    whole = WHOLE + "vars: {k: 3}\nmatrix: {m: [1, 2]}\nretrieve:\n  - {tasks: [t-tatoeba], modules: [nli]}\n"
    path.write_text(WHOLE)
    assert read_recipe(path, task_files=registry).targets

    @settings(max_examples=1000, deadline=None, suppress_health_check=CALM)
    @given(damaged(whole) if how == "text" else changed(yaml.safe_load(whole)).map(yaml.safe_dump).map(str.encode))
    def holds(data: bytes) -> None:
        path.write_bytes(data)
        clear(lambda: read_recipe(path, task_files=registry))

    holds()
