"""The Hub, through its own client: what is a repository, what is taken from it, and its refusals without tokens."""

from __future__ import annotations

import re
from pathlib import Path

from adapterstilts.errors import DataError

READ = ("*.json", "*.safetensors")  # never a pickle


def is_folder(place: str) -> bool:
    """Whether a place is a path, not ``owner/name`` on the Hub."""
    return place.startswith((".", "/", "~")) or place.count("/") != 1 or Path(place).is_dir()


def download(source: str, revision: str | None = None) -> Path:
    """The JSON and safetensors of ``owner/name[@revision]`` in the Hub's own cache.

    Raises:
        DataError: no such repository, no network, no right.
    """
    from huggingface_hub import snapshot_download

    repository, _, given = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or given or None, allow_patterns=list(READ)))
    except Exception as error:
        raise refused(repository, error, "check the name, the network and `hf auth login`") from None


def refused(repository: str, error: Exception, fix: str) -> DataError:
    """What the Hub said, in one line, with any token in it blotted out."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"the Hub refuses `{repository}`", why=re.sub(r"hf_\w+", "hf_***", first), fix=fix)
