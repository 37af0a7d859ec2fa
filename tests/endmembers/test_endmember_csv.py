"""endmembers.csv of a run: written and read back, by the reader of all tables of spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hsichunk.endmembers.endmember_csv import read_endmembers, write_endmembers
from hsichunk.endmembers.library import read_library
from hsichunk.errors import HsiError

NM = np.array([400.25, 405.5, 411.0, 2500.0])
SPECTRA = np.random.default_rng(1).random((2, 4))
PLACES = [("D02 tile, north EM1", 368000.5, 4306000.5), ("EM2", float("nan"), float("nan"))]


def test_every_bit_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "endmembers.csv"
    write_endmembers(path, NM, SPECTRA, PLACES)
    found = read_endmembers(path)
    assert found.names == ("D02 tile, north EM1", "EM2")
    assert found.wavelength.tobytes() == NM.tobytes()
    assert found.spectra.tobytes() == SPECTRA.tobytes()
    assert found.spectra.flags.c_contiguous
    np.testing.assert_array_equal(found.x, [368000.5, np.nan])
    np.testing.assert_array_equal(found.y, [4306000.5, np.nan])
    assert read_library(path).values.tobytes() == SPECTRA.tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"No such file or directory\); run it again"),
        ("", "is empty; .*: run it again"),
        ("wavelength_nm,EM1\n400,0.1\n410,0.2\n", "has no rows x and y below its names; .*: run it again"),
        ("wavelength_nm,EM1\nx,1\ny,2\n400,half\n", "'half' among the values; .*: run it again"),
        ("wavelength_nm,EM1,EM2\nx,1,2\ny,2,3\n400,0.1\n", "row 4 has 2 cells, the first 3; .*: run it again"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "endmembers.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(HsiError, match=f"endmembers.csv: .*{words}") as caught:
        read_endmembers(path)
    assert "\n" not in str(caught.value)
