"""How much of each module a fusion uses: running means of its weights over the real tokens of everything that runs.

Only sums are kept, so a data set of any size costs a few numbers for each place of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.forward import fusion_key, fusions


@dataclass
class _Sums:
    total: Tensor  # (modules,)
    squares: Tensor
    tokens: int


class Usage:
    """The weights of every mixture of an adapted encoder, summed while ``watching``."""

    def __init__(self, adapted: Adapted) -> None:
        self.adapted = adapted
        self.sums: dict[tuple[str, str], _Sums] = {}

    @contextmanager
    def watching(self) -> Iterator[Usage]:
        """Count what runs inside."""
        handles = [
            mixture.register_forward_hook(partial(self._add, place)) for place, mixture in self.adapted.mixtures.items()
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, place: tuple[str, str], mixture: Any, inputs: Any, alpha: Tensor) -> None:
        real = self.adapted.real
        chosen = alpha.detach().double()
        chosen = chosen.flatten(0, -2) if real is None else chosen[real]
        kept = self.sums.get(place)
        total, squares, tokens = chosen.sum(0).cpu(), chosen.square().sum(0).cpu(), len(chosen)
        if kept is not None:
            total, squares, tokens = kept.total + total, kept.squares + squares, kept.tokens + tokens
        self.sums[place] = _Sums(total, squares, tokens)

    def rows(self) -> list[dict[str, Any]]:
        """One row a place: {fusion, how, parts, layer, place, share, deviation, tokens}.

        ``parts`` are the expressions that are mixed, ``share`` the mean weight of each, which sum to 1, ``deviation``
        its standard deviation over tokens: 0 where the weights see no input.
        """
        tree = self.adapted.tree
        by_key = {fusion_key(fusion): fusion for fusion in fusions(tree)} if tree is not None else {}
        rows = []
        for (key, path), sums in self.sums.items():
            fusion, (layer, place) = by_key[key], _place(path)
            mean = sums.total / sums.tokens
            spread = (sums.squares / sums.tokens - mean.square()).clamp(min=0).sqrt()
            rows.append(
                {
                    "fusion": key,
                    "how": fusion.how,
                    "parts": [format_tree(child) for child in fusion.children],
                    "layer": layer,
                    "place": place,
                    "share": [round(float(value), 6) for value in mean],
                    "deviation": [round(float(value), 6) for value in spread],
                    "tokens": sums.tokens,
                }
            )
        return rows


def _place(path: str) -> tuple[int, str]:
    """(layer, the rest) of ``encoder.layer.3.attention.self.query``."""
    _, _, layer, *rest = path.split(".")
    return int(layer), ".".join(rest)
