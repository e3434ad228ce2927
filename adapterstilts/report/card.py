"""The model card of a shared module: Markdown with the front matter that the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# One example of each format, without its label, for the snippet.
EXAMPLES: Mapping[str, dict[str, Any]] = {
    "classification": {"text_a": "One text.", "text_b": "Another text."},
    "multiple_choice": {"prompt": "It rained.", "choices": ["The street is wet.", "The street is dry."]},
    "tagging": {"words": ["Some", "words", "here"]},
    "span": {"question": "Who came?", "context": "Anna came home."},
}


def card(about: Mapping[str, Any], *, source: str, task: str | None, format: str | None) -> str:
    """The card of what ``api.sharing`` writes about a module.

    Args:
        source: what a reader pulls: a Hub id, or "." for the folder that the card lies in.
        task: a task that the module has a head for, shown in the snippet with an example of its ``format``.
    """
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    scores: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in about["scores"]:
        extra = "".join(f", {key} {row[key]}" for key in ("layer", "variant") if row.get(key) is not None)
        scores.setdefault((row["task"], row["split"], row["metric"] + extra), []).append(row)
    languages = sorted({code for row in about["data"] for code in row["languages"]} - {"None"})
    recipe = about["recipe"]
    front = {
        "library_name": "adapterstilts",
        "base_model": about["base"]["repository"],
        "language": languages,
        "tags": ["adapterstilts", "adapter", *sorted({row["method"] for row in about["lineage"] if row["method"]})],
    }
    environment = Environment(
        loader=PackageLoader("adapterstilts.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template("card.md.j2").render(
        about=about,
        front=yaml.safe_dump({key: value for key, value in front.items() if value}, sort_keys=False).strip(),
        scores=scores,
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True).strip() if recipe else None,
        snippet=snippet(about, source, task, format),
    )


def snippet(about: Mapping[str, Any], source: str, task: str | None, format: str | None) -> list[str]:
    """Three lines that use the module."""
    name, base = about["name"], about["base"]["ref"]
    where = "" if base else ', base="FOLDER OF THE BASE"'
    use = f'print(adapterstilts.load("{name}").encode(["A sentence."]).shape)'
    if task is not None and format is not None and format in EXAMPLES:
        use = f'print(*adapterstilts.predict("{name}", "{task}", [{EXAMPLES[format]}]))'
    return ["import adapterstilts", f'adapterstilts.pull("{source}", name="{name}"{where})', use]
