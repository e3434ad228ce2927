"""A few tasks and a base for tests of recipes and plans: real files, read by the real registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from adapterstilts.tasks.registry import TaskRegistry

NLI_LABELS = ["contradiction", "entailment", "neutral"]


def small_registry(folder: Path) -> TaskRegistry:
    """Tasks t-nli, t-qa, t-tatoeba, t-bucc from the lab, t-xqa (a target trained on t-qa) and t-own from files."""
    lab: dict[str, dict[str, Any]] = {
        "t-nli": {"format": "classification", "labels": NLI_LABELS, "metric": "accuracy", "task": "lab-nli"},
        "t-qa": {"format": "span", "metric": "squad", "task": "lab-qa"},
        "t-xqa": {"format": "span", "metric": "squad", "task": "lab-qa", "train": "t-qa", "splits": ["test"]},
        "t-tatoeba": {"format": "bitext", "metric": "tatoeba", "task": "lab-tatoeba", "splits": ["test"]},
        "t-bucc": {"format": "bitext", "metric": "bucc", "task": "lab-bucc", "splits": ["dev", "test"]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, plain in lab.items():
        source = {"name": "lab", "kind": "lab", "task": plain.pop("task")}
        languages = ["qaa", "qac"] if plain["format"] == "bitext" else ["en", "qaa", "qac"]
        sizes = {"train": 60, "dev": 20, "test": 20}
        text = yaml.safe_dump({**plain, "languages": languages, "sizes": sizes, "sources": [source]})
        (folder / f"{name}.yaml").write_text(text)
    own = {"format": "classification", "labels": NLI_LABELS, "metric": "accuracy", "languages": ["en", "de", "sw"]}
    (folder / "t-own.yaml").write_text(yaml.safe_dump(own))
    return TaskRegistry([folder])


def own_data(root: Path, languages: str = "en de") -> Path:
    """Files of t-own for some of its languages, in the layout of a user's own data."""
    place = root / "own" / "t-own"
    place.mkdir(parents=True, exist_ok=True)
    for language in languages.split():
        for split in ("train", "dev", "test"):
            row = {"id": "1", "text_a": f"{language} {split}", "text_b": None, "label": "neutral"}
            (place / f"{split}-{language}.jsonl").write_text(json.dumps(row) + "\n")
    return root


def small_base(folder: Path, weights: bytes = b"weights", tokenizer: str = "{}") -> Path:
    """A directory with the files that identify a base; nothing here loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "xlm-roberta"}')
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder
