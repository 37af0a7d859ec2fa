"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from hsichunk.atomic_files import replacing, replacing_hdf5
from hsichunk.errors import HsiError


def test_a_file_takes_its_name_once_it_is_whole_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc here, which names the file of a descriptor")
    path = tmp_path / "a.txt"
    done: list[str] = []
    path.write_text("old")
    replace = os.replace

    def watched(old: Path, new: Path) -> None:
        done.append(f"{old} -> {new}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.readlink(f"/proc/self/fd/{file}")))
    monkeypatch.setattr(os, "replace", watched)
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.name.startswith(".a.txt.")
        assert part.name.endswith(".part")
    assert path.read_text() == "new"
    assert done == [str(part), f"{part} -> {path}", str(tmp_path)]
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "in words of a library"), OSError("disk gone"), KeyError("bug")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    said = {28: "No space left on device"}.get(getattr(error, "errno", None) or 0, "disk gone")
    expected: type[Exception] = HsiError if isinstance(error, OSError) else KeyError
    with (
        pytest.raises(expected, match=f"a.txt: {said}; choose" if expected is HsiError else "bug"),
        replacing(path) as part,
    ):
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(HsiError, match=r"none/a\.txt: No such file or directory; choose"),
        replacing(tmp_path / "none" / "a.txt") as part,
    ):
        part.write_text("x")


def test_hdf5_in_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with replacing_hdf5(path) as file:
        file["x"] = [1, 2]
    with h5py.File(path) as file:
        assert file["x"][...].tolist() == [1, 2]
    with pytest.raises(HsiError, match=r"a\.h5: No space left on device; choose"), replacing_hdf5(path) as file:
        raise RuntimeError(
            "Unable to flush (time = now\n, errno = 28, error message = 'No space left on device', b = 0)"
        )
    with pytest.raises(RuntimeError, match="a fault"), replacing_hdf5(path):
        raise RuntimeError("a fault")
    assert os.listdir(tmp_path) == ["a.h5"]
    assert h5py.is_hdf5(path)


def test_a_killed_writer_leaves_a_hidden_file_and_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import os, signal
from pathlib import Path
from hsichunk.atomic_files import replacing
with replacing(Path({str(path)!r})) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode < 0
    assert path.read_text() == "old"
    (left,) = (name for name in os.listdir(tmp_path) if name != "a.txt")
    assert left.startswith(".a.txt.")
    assert left.endswith(".part")


def test_links_stay_links_and_what_they_lead_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "a")
    with replacing(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "a").read_text() == "new"


def test_pipes_and_streams_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(tmp_path / "pipe") as part:
            part.write_text("through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    code = (
        "from pathlib import Path; from hsichunk.atomic_files import replacing\n"
        "with replacing(Path('/dev/stdout')) as part: part.write_text('said')"
    )
    before = os.readlink("/dev/stdout")
    with (tmp_path / "out").open("w") as out:
        for to in (subprocess.PIPE, out):
            subprocess.run([sys.executable, "-c", code], stdout=to, check=True)
    assert (tmp_path / "out").read_text() == "said"
    assert os.readlink("/dev/stdout") == before
