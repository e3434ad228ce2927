"""The rank budget of an AdaLoRA that trains: after each update the least important singular directions are closed.

The importance of a direction and the cubic schedule are peft's (RankAllocator; Zhang et al. 2023, arXiv 2303.10512);
when they run is decided here. ``state`` is all that a resumed run needs to go on with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapterstilts.errors import StageFailed
from adapterstilts.settings import MethodSettings

AVERAGES = ("exp_avg_ipt", "exp_avg_unc")


@dataclass(frozen=True)
class _Parameters:
    """What the allocator looks through: the parameters of one module alone, by peft's names."""

    parameters: Mapping[str, nn.Parameter]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.parameters.items()


class Budget:
    """How many directions one module keeps at each update of a run.

    Args:
        method: its ``r`` is the mean rank at the end, ``init_r`` the one at the start; ``warmup`` and ``cooldown`` are
            the shares of the run before directions close, and after the last has closed.
        parameters: of the module, as `delta.tensors` names them.
        steps: updates of the whole run.

    Raises:
        StageFailed: too few updates for a budget to change.
    """

    def __init__(self, method: MethodSettings, parameters: Mapping[str, nn.Parameter], steps: int) -> None:
        from peft import AdaLoraConfig
        from peft.tuners.adalora.layer import RankAllocator

        chosen = method.parameters
        begin, end = int(chosen["warmup"] * steps), max(1, int(chosen["cooldown"] * steps))
        if begin >= steps - end:
            raise StageFailed(f"AdaLoRA in {steps} updates", why="its ranks have no time to change", fix="train longer")
        self.orthogonal = float(chosen["orthogonal"])
        self.last = steps - end
        self.pattern: dict[str, list[bool]] = {}
        self.own = _Parameters({f"{name}.module": parameter for name, parameter in parameters.items()})
        config = AdaLoraConfig(
            init_r=int(chosen["init_r"]),
            target_r=int(chosen["r"]),
            tinit=begin,
            tfinal=end,
            deltaT=int(chosen["every"]),
            total_step=steps,
        )
        self.allocator = RankAllocator(self.own, config, "module")

    def penalty(self) -> Tensor:
        """The mean distance of all A A' and B' B from the identity, times its weight."""
        distances = []
        for name, parameter in self.own.named_parameters():
            if "lora_E" not in name:
                product = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
                distances.append(torch.norm(product - torch.eye(len(product), device=product.device)))
        return self.orthogonal * torch.stack(distances).sum() / len(distances)

    def after(self, step: int) -> None:
        """What follows the optimizer's update number ``step``, counted from 0, while its gradients are still there."""
        if step > self.last:
            self.allocator.mask_using_rank_pattern(self.own, self.pattern)
            return
        _, pattern = self.allocator.update_and_allocate(self.own, step, force_mask=step == self.last)
        self.pattern = pattern or self.pattern
        if step == self.last:
            self.allocator.reset_ipt()

    def state(self) -> dict[str, Tensor]:
        """Running averages and open directions."""
        found = {f"open/{name}": torch.tensor(open) for name, open in self.pattern.items()}
        for average in AVERAGES:
            found |= {f"{average}/{name}": tensor for name, tensor in getattr(self.allocator, average).items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a stored state."""
        device = next(iter(self.own.parameters.values())).device
        for key, tensor in state.items():
            kind, _, name = key.partition("/")
            if kind == "open":
                self.pattern[name] = tensor.tolist()
            else:
                getattr(self.allocator, kind)[name] = tensor.to(device)
                self.allocator.ipt[name] = torch.zeros_like(tensor)  # made anew at each update
