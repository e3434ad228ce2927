"""The graph of a plan as DOT or Mermaid text."""

from __future__ import annotations

from adapterstilts.plan.graph import Plan

SHAPES = {"prepare": "note", "train": "box", "merge": "diamond", "evaluate": "ellipse", "retrieve": "ellipse"}


def draw(plan: Plan, form: str) -> str:
    """The stages and what each needs; names are the first 8 digits of the hashes."""
    return _dot(plan) if form == "dot" else _mermaid(plan)


def _edges(plan: Plan) -> list[tuple[str, str]]:
    return [
        (parent[:8], stage.hash[:8])
        for stage in plan.stages
        for parent in dict.fromkeys(stage.parents.values())
        if parent in plan.by_hash
    ]


def _dot(plan: Plan) -> str:
    lines = [f'digraph "{plan.recipe}" {{', "  rankdir=LR;"]
    for stage in plan.stages:
        label = stage.label.replace('"', r"\"")
        lines.append(f'  "{stage.hash[:8]}" [label="{label}", shape={SHAPES.get(stage.kind, "box")}];')
    lines += [f'  "{parent}" -> "{child}";' for parent, child in _edges(plan)]
    return "\n".join([*lines, "}"])


def _mermaid(plan: Plan) -> str:
    lines = ["flowchart LR"]
    for stage in plan.stages:
        label = stage.label.replace('"', "#quot;")
        lines.append(f'  s{stage.hash[:8]}["{label}"]')
    lines += [f"  s{parent} --> s{child}" for parent, child in _edges(plan)]
    return "\n".join(lines)
