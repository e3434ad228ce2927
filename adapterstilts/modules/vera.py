"""VeRA among other modules of one model; peft's own injection expects to be the first and the only one."""

from __future__ import annotations

from typing import Any

from peft import VeraModel


class Vera(VeraModel):  # type: ignore[misc]
    """peft's injection, which also finds linear layers that other kinds of deltas already wrap."""

    def _find_dim(self, config: Any) -> tuple[int, int]:
        """The largest (out, in) of the sites: the shape of the shared projections."""
        sites = [m for key, m in self.model.named_modules() if self._check_target_module_exists(config, key)]
        return max(m.out_features for m in sites), max(m.in_features for m in sites)

    def _init_vera_A_vera_B(self, config: Any, adapter_name: str) -> None:
        super()._init_vera_A_vera_B(config, adapter_name)
        # In fp32: peft rounds those of the layers to the precision of the base.
        self.projections = self.vera_A[adapter_name], self.vera_B[adapter_name]

    def _check_new_adapter_config(self, config: Any) -> None:
        """Other kinds may be there, and other keys: each module keeps projections of its own (see ``delta.inject``)."""
