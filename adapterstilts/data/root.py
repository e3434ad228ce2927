"""Where data lies on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where a layout may lie under a plain root; XTREME's download script leaves its own in download/.
PLACES = {"xtreme": ("xtreme", "download", "data/xtreme", "data/download", "")}


@dataclass(frozen=True)
class DataRoot:
    """Where data lies: plain roots searched as root/<layout>, and folders given per layout.

    ``online``: whether the Hub is asked. None: only when no folder is given at all, so that a language missing in the
    user's folder is reported and never becomes a download. True: real files first, then the Hub, then stand-ins.
    """

    roots: tuple[Path, ...] = ()
    layouts: Mapping[str, Path] = None  # type: ignore[assignment]
    online: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layouts", dict(self.layouts or {}))

    @property
    def asks_hub(self) -> bool:
        """Whether a Hub repository may serve."""
        if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            return False
        return self.online if self.online is not None else not (self.roots or self.layouts)

    @classmethod
    def of(cls, value: DataRoot | Path | str | Mapping[str, Any] | None) -> DataRoot:
        """From a path, or a mapping {xtreme:, raw:, substitutes:, own:, text:, hub: DIR | true | false, root:}."""
        if isinstance(value, DataRoot):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            return cls((Path(value).expanduser(),))
        hub = value.get("hub")
        layouts = {k: Path(v).expanduser() for k, v in value.items() if k != "root" and not isinstance(v, bool)}
        roots = (Path(value["root"]).expanduser(),) if "root" in value else ()
        return cls(roots, layouts, hub if isinstance(hub, bool) else None)

    def folders(self, layout: str) -> list[Path]:
        """The folders that may hold a layout, best first."""
        given = [self.layouts[layout]] if layout in self.layouts else []
        places = PLACES.get(layout, (layout, f"data/{layout}"))
        return given + [root / place for root in self.roots for place in places]

    def find(self, layout: str, patterns: list[str]) -> tuple[tuple[Path, ...], list[str]]:
        """The files of all patterns in the first folder that has every one; else none, and what was looked for."""
        tried = []
        for folder in self.folders(layout):
            found: list[Path] = []
            for pattern in patterns:
                if "*" in pattern:
                    matches = sorted(folder.glob(pattern), key=lambda p: p.name)
                else:
                    matches = [folder / pattern] if (folder / pattern).is_file() else []
                if not matches:
                    tried.append(str(folder / pattern))
                    found = []
                    break
                found += matches
            if found:
                return tuple(path.absolute() for path in found), tried
        return (), tried or [f"{layout}: no folder given, {patterns[0]} looked for"]
