"""The colours of pages and figures, for light and dark, safe for colour-blind readers.

Figures are drawn with placeholder colours that become CSS variables (or, alone, fixed colours), so that one drawing
serves both themes. The series follow Okabe and Ito (2008), darkened or lightened to stand on their ground.
"""

from __future__ import annotations

from typing import Literal

Mode = Literal["light", "dark"]

LIGHT = {
    "surface": "#fdfdfc",
    "raised": "#f4f5f5",
    "ink": "#191c20",
    "muted": "#5b626b",
    "grid": "#dfe2e5",
    "accent": "#0067a8",
    "gain": "#0067a8",
    "loss": "#b84a00",
    "neutral": "#878d95",
    "series-0": "#5b626b",
    "series-1": "#0072b2",
    "series-2": "#c4500c",
    "series-3": "#00805a",
    "series-4": "#a3447b",
    "series-5": "#9a6e00",
    "series-6": "#3a8fc4",
    "series-7": "#6b5bb5",
}
DARK = {
    "surface": "#15171a",
    "raised": "#1f2226",
    "ink": "#e9ebed",
    "muted": "#a0a7af",
    "grid": "#33383e",
    "accent": "#6bb8ee",
    "gain": "#6bb8ee",
    "loss": "#f2985c",
    "neutral": "#858c95",
    "series-0": "#a0a7af",
    "series-1": "#5fb4ea",
    "series-2": "#f08c4b",
    "series-3": "#34c497",
    "series-4": "#dd90bd",
    "series-5": "#deb03c",
    "series-6": "#9fd0f0",
    "series-7": "#ab9df2",
}
SERIES = 8
STEPS = 4  # colour steps on either side of zero in a heat map


def _mix(a: str, b: str, share: float) -> str:
    one, two = ([int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in (a, b))
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in zip(one, two, strict=True))


for _colours, _strongest in ((LIGHT, 0.52), (DARK, 0.6)):
    _colours["step-0"] = _colours["surface"]
    for _k in range(1, STEPS + 1):
        _colours[f"step-p{_k}"] = _mix(_colours["surface"], _colours["gain"], _strongest * _k / STEPS)
        _colours[f"step-m{_k}"] = _mix(_colours["surface"], _colours["loss"], _strongest * _k / STEPS)

# What matplotlib is given: a colour that occurs nowhere else and is replaced in the finished SVG.
PLACEHOLDER = {name: f"#a5c3{index:02x}" for index, name in enumerate(LIGHT)}


def step(value: float, bound: float) -> str:
    """The heat-map colour name of a difference: "step-0" near zero, "step-p4" at +bound and above."""
    share = abs(value) / bound if bound else 0.0
    if share < 0.5 / STEPS:
        return "step-0"
    return f"step-{'p' if value > 0 else 'm'}{min(STEPS, max(1, round(share * STEPS)))}"


def themed(svg: str, mode: Mode | None = None) -> str:
    """The SVG with CSS variables for colours (mode None), or with the fixed colours of one mode."""
    for name, placeholder in PLACEHOLDER.items():
        fixed = f"var(--{name})" if mode is None else (LIGHT if mode == "light" else DARK)[name]
        svg = svg.replace(placeholder, fixed)
    return svg


def variables(mode: Mode) -> str:
    """The CSS declarations of one mode."""
    return "".join(f"--{name}:{colour};" for name, colour in (LIGHT if mode == "light" else DARK).items())
