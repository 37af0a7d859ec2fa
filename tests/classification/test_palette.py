"""The palette of class maps: distinct for every number of classes, and stable."""

from __future__ import annotations

import numpy as np
import pytest

from hsichunk.classification.palette import UNCLASSIFIED_COLOR, class_colors
from hsichunk.errors import HsiError


def test_every_class_keeps_its_own_colour() -> None:
    whole = class_colors(254)
    assert whole.shape == (255, 3)
    assert whole.dtype == np.uint8
    assert len(np.unique(whole, axis=0)) == 255
    for k in (0, 1, 7, 8, 100):
        np.testing.assert_array_equal(class_colors(k), whole[: k + 1])
    assert tuple(whole[0]) == UNCLASSIFIED_COLOR
    assert whole[1:8].tolist()[::6] == [[230, 159, 0], [204, 121, 167]]  # Okabe and Ito's orange and purple


def test_few_classes_are_far_apart_also_for_the_colour_blind() -> None:
    """With the deuteranopia matrix of Machado et al. (2009), in linear RGB."""
    colors = (class_colors(12) / 255.0) ** 2.2
    deuteranope = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    )
    for seen in (colors, colors @ deuteranope.T):
        shown = np.clip(seen, 0, 1) ** (1 / 2.2) * 255
        apart = np.sqrt(((shown[:, None] - shown) ** 2).sum(axis=-1)) + 999 * np.eye(13)
        assert apart.min() > 25


def test_the_palette_cannot_be_spoilt_by_its_reader() -> None:
    class_colors(3)[:] = 0
    assert tuple(class_colors(3)[0]) == UNCLASSIFIED_COLOR


@pytest.mark.parametrize("k", [-1, 255])
def test_class_maps_have_at_most_254_classes(k: int) -> None:
    with pytest.raises(HsiError, match="254"):
        class_colors(k)
