"""Names of files that somebody else wrote down: in an archive, a manifest, a shared module, a task file."""

from __future__ import annotations


def why_outside(name: str) -> str | None:
    """Why ``name`` is no place inside the folder it is said to lie in; None when it is one."""
    if name.startswith("/") or "\\" in name:
        return "its name is absolute"
    if ".." in name.split("/") or name in ("", "."):
        return "its name leaves the folder"
    return None
