"""What was packed comes out again byte for byte; an archive that tries anything else is refused and leaves nothing."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.archive import MANIFEST, pack, unpack
from adapterstilts.errors import DataError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | bytes]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.tsv").write_bytes("ä\tb\r\n".encode())
    (source / "big").write_bytes(bytes(range(256)) * 20_000)
    return {"data/raw/a.tsv": source / "a.tsv", "bases/x/big": source / "big", "recipe.yaml": b"name: r\n"}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_round_trip(name: str, files: dict[str, Path | bytes], tmp_path: Path) -> None:
    listed = pack(files, tmp_path / name, {"name": "r"})
    manifest = unpack(tmp_path / name, tmp_path / "out")
    assert manifest["files"] == listed and manifest["name"] == "r"
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {k: v if isinstance(v, bytes) else v.read_bytes() for k, v in files.items()}
    with pytest.raises(DataError, match="something already"):
        unpack(tmp_path / name, tmp_path / "out")


def test_equal_files_give_equal_archives(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    pack(files, tmp_path / "a.tar", {})
    pack(dict(reversed(files.items())), tmp_path / "b.tar", {})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_nothing_half_packed(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pack({**files, "x": tmp_path / "gone"}, tmp_path / "a.tar", {})
    with pytest.raises(DataError, match="changed while"):
        pack(files, tmp_path / "a.tar", {}, sha256=lambda path: "0" * 64)  # as if it had been another file
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


Change = Callable[[tarfile.TarInfo], object]


def forged(path: Path, name: str, change: Change = lambda member: None, listed: bool = True, **manifest: Any) -> None:
    """An archive with one file of this name; the manifest agrees with it."""
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"
    files = {name: {"sha256": digest, "bytes": 1}} if listed else {}
    plain = json.dumps({"schema_version": 1, "files": files, **manifest}).encode()
    with tarfile.open(path, "w") as tar:
        first = tarfile.TarInfo(MANIFEST)
        first.size = len(plain)
        tar.addfile(first, io.BytesIO(plain))
        member = tarfile.TarInfo(name)
        member.size = 1
        change(member)
        tar.addfile(member, io.BytesIO(b"x"))


def link(kind: bytes, to: str) -> Change:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, to, 0

    return change


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("/etc/passwd", None, "name is absolute"),
        ("../evil", None, "leaves the folder"),
        ("data/../../evil", None, "leaves the folder"),
        ("data/./x", None, "leaves the folder"),
        ("data\\..\\x", None, "name is absolute"),
        ("data/x", link(tarfile.SYMTYPE, "/etc/passwd"), "no plain file"),
        ("data/x", link(tarfile.LNKTYPE, "manifest.json"), "no plain file"),
        ("data/x", link(tarfile.DIRTYPE, ""), "no plain file"),
        ("data/x", link(tarfile.FIFOTYPE, ""), "no plain file"),
        ("data/x", link(tarfile.CHRTYPE, ""), "no plain file"),
    ],
)
def test_unsafe_members_are_refused(name: str, change: Change | None, what: str, tmp_path: Path) -> None:
    forged(tmp_path / "a.tar", name, change or (lambda member: None))
    with pytest.raises(DataError, match=what):
        unpack(tmp_path / "a.tar", tmp_path / "out" / "deep")
    assert [p.name for p in tmp_path.iterdir()] in (["a.tar"], ["a.tar", "out"], ["out", "a.tar"])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_archives_that_do_not_agree_with_their_manifest(tmp_path: Path) -> None:
    path, out = tmp_path / "a.tar", tmp_path / "out"
    forged(path, "x")
    assert unpack(path, tmp_path / "fine")["files"].keys() == {"x"}
    forged(path, "x", listed=False)
    with pytest.raises(DataError, match="does not belong here"):
        unpack(path, out)
    forged(path, "x", files={"x": {"sha256": "0" * 64}})
    with pytest.raises(DataError, match="checksum is wrong"):
        unpack(path, out)
    forged(path, "x", files={"x": {"sha256": "0"}, "y": {"sha256": "0"}})
    with pytest.raises(DataError, match="checksum is wrong"):
        unpack(path, out)
    forged(path, "x", schema_version=99)
    with pytest.raises(DataError, match="another version"):
        unpack(path, out)
    forged(path, "x", files=[1])
    with pytest.raises(DataError, match="manifest cannot be read"):
        unpack(path, out)
    assert not out.exists()


def test_damaged_archives(files: dict[str, Path | bytes], tmp_path: Path) -> None:
    path, out = tmp_path / "a.tar", tmp_path / "out"
    pack(files, path, {})
    whole = path.read_bytes()
    for length in (0, 700, len(whole) // 2, len(whole) - 12_000):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            unpack(path, out)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(DataError, match="checksum is wrong"):
        unpack(path, out)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    with pytest.raises(DataError, match="no archive of `data pack`"):
        unpack(path, out)
    with pytest.raises(DataError, match="no such archive"):
        unpack(tmp_path / "gone", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "source"]
