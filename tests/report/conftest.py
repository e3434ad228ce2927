"""A realistic run: 7 languages, 2 bases of 3 seeds, 8 arms, 2 targets, retrieval of 4 encoders at 5 layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Run = tuple[list[dict[str, Any]], dict[str, Any]]

DISTANCES = {"en": 0.0, "qaa": 0.18, "qab": 0.395, "qac": 0.515, "qad": 0.632, "qae": 0.825, "qaf": 1.0}
BASES = ("lab-s1", "lab-s2")
SEEDS = (1, 2, 3)

ARMS = [
    ("none", "target training from a fresh module", None),
    ("continue", "target training goes on from the module `nli`", "none"),
    ("stack", "a fresh module over the frozen module `nli`", "none"),
    ("sequential", "`nli`, then `nli/qab`, then the target", "none"),
    ("joint", "`nli` and `nli/qab` mixed, then the target", "none"),
    ("fuse", "a trained gate over `nli` and `sim`, then the target", "none"),
    ("merge", "the exact sum of `nli` and `sim`, then the target", "none"),
    ("continue-bn", "as continue, with bottleneck modules", "none-bn"),
]
# (English, zero-shot) effect of each arm on each target, in points.
EFFECTS = {
    "nli-small": {
        "continue": (2.0, 5.0),
        "stack": (2.0, 4.0),
        "sequential": (1.0, 6.5),
        "joint": (1.5, 0.3),
        "fuse": (3.0, -0.2),
        "merge": (0.0, -5.5),
        "continue-bn": (1.0, 2.0),
    },
    "qa": {"continue": (6.0, 0.3), "stack": (5.5, 0.5), "sequential": (5.0, 0.0), "joint": (5.0, -0.4)},
}
TASKS = {"nli-small": ("accuracy", 82.0, 40.0, 300, 33.3), "qa": ("f1", 61.0, 38.0, 250, None)}


def make(seed: int = 0, effect: float = 1.0) -> Run:
    """Rows and facts; ``effect`` scales every true effect (0: nothing helps)."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    stages: dict[str, dict[str, Any]] = {}

    def stage(label: str, **known: Any) -> str:
        digest = "".join(rng.choice(list("0123456789abcdef"), 64))
        stages[digest] = {
            "label": label,
            "seconds": float(rng.uniform(3, 40)),
            "peak_memory": float(rng.uniform(300, 700) * 2**20),
        } | known
        return digest

    arms = [*ARMS, ("none-bn", "target training from a fresh bottleneck module", None)]
    for task, (metric, top, fall, n, _) in TASKS.items():
        habit = {language: rng.normal(0, 4) if language != "en" else 0.0 for language in DISTANCES}
        for base in BASES:
            level = rng.normal(0, 1.5)
            for run in SEEDS:
                shared = rng.normal(0, 1.0)
                for arm, _, baseline in arms:
                    english, others = EFFECTS[task].get(arm, (0.0, 0.0))
                    trained = stage(f"train {arm} {task} seed {run}", seed=run, converged=arm != "fuse" or run != 2)
                    scored = stage(f"evaluate {arm} {task}", seed=run, split="test", parents=[trained], converged=None)
                    own = rng.normal(0, 0.8) if baseline else 0.0
                    for language, far in DISTANCES.items():
                        value = top - fall * far + habit[language] + level + shared + own + rng.normal(0, 1.2)
                        value += effect * (english if language == "en" else others * (1.2 - 0.4 * far))
                        cell = {"base": base, "arm": arm, "seed": run, "task": task, "language": language}
                        cell |= {"split": "test", "n": n, "stage": scored}
                        rows.append(cell | {"metric": metric, "value": float(np.clip(value, 0, 100))})
                        if metric == "f1":
                            rows.append(cell | {"metric": "em", "value": float(np.clip(value - 12, 0, 100))})
    for base in BASES:
        level = rng.normal(0, 1)
        for module, raw, centred in (("base", 0, 0), ("nli", -12, -9), ("sim", 19, 2), ("nli+sim", 8, 0)):
            for run in (0,) if module == "base" else SEEDS:
                scored = stage(f"retrieve {module}", seed=run or None, split="test")
                drift = rng.normal(0, 1) if run else 0.0
                for layer in range(5):
                    depth = 1 - abs(layer - 3) / 4
                    for variant, start, change in (("raw", 46, raw), ("centred", 86, centred)):
                        for language, far in DISTANCES.items():
                            if language == "en":
                                continue
                            value = (start + effect * change + level + drift) * depth - 14 * far + rng.normal(0, 1) + 7
                            cell = {"base": base, "arm": module, "seed": run or None, "task": "lab-tatoeba"}
                            cell |= {"language": language, "split": "test", "metric": "accuracy", "n": 300}
                            cell |= {"value": float(np.clip(value, 0, 100)), "stage": scored}
                            rows.append(cell | {"layer": layer, "variant": variant})
    facts = {
        "recipe": {"name": "quickstart", "text": "base: lab\nseeds: [1, 2, 3]\narms:\n  continue: {from: nli}\n"},
        "names": {
            "none": "no intermediate",
            "nli-small": "NLI (small)",
            "qa": "Questions",
            "lab-tatoeba": "Sentence retrieval",
        },
        "languages": dict(DISTANCES),
        "distance_source": "constructed: 0.45 lexicon + 0.30 word order + 0.15 morphology + 0.10 script.",
        "chance": {task: chance for task, (*_, chance) in TASKS.items()},
        "majority": {("nli-small", language): 34.0 + i for i, language in enumerate(DISTANCES)},
        "arms": [{"name": a, "description": d, "baseline": b} for a, d, b in [arms[0], *arms[1:7], arms[8], arms[7]]],
        "stages": stages,
        "versions": {"adapterstilts": "0.1.0", "torch": "2.13.0", "peft": "0.21.2", "adapters": "1.3.0"},
        "stand_ins": ["The embedded world's languages are invented: no number here speaks about a real language."],
        "warnings": ["12 of 300 NLI sentences were cut at 64 tokens."],
        "layers": {"lab-tatoeba": 3},
        "command": "adapterstilts run recipes/quickstart.yaml",
    }
    return rows, facts


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return make


@pytest.fixture(scope="session")
def run() -> Run:
    return make()
