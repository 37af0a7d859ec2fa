"""When two wavelengths are one."""

from __future__ import annotations

import numpy as np
import pytest

from hsichunk.readers.wavelengths import bands_at, same_bands

NM = np.array([400.0, 405.0, 410.5, 500.0])


@pytest.mark.parametrize(("off", "same"), [(0.0, True), (9e-4, True), (-9e-4, True), (1.1e-3, False), (np.nan, False)])
def test_bands_are_one_within_a_thousandth_of_a_nanometre(off: float, same: bool) -> None:
    other = NM + np.array([0, 0, off, 0])
    assert same_bands(NM, other) is same
    assert (bands_at(other, NM) is not None) is same


def test_another_number_of_bands_is_another_set() -> None:
    assert not same_bands(NM, NM[1:])


def test_positions_of_bands_in_any_order() -> None:
    found = bands_at(np.array([500.0005, 400.0]), NM)
    assert found is not None
    assert found.tolist() == [3, 0]
    assert bands_at(np.array([400.0, 402.5]), NM) is None
