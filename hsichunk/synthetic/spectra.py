"""Reflectance of the materials that synthetic tiles are mixed from, by formulas of the wavelength."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hsichunk.array_types import Floats

# NEON's grids, first and last centre in nm: SERC 2017 for .001 products, SERC 2025 for .002 ones
NEON_RANGE: Final = {"DP3.001": (383.6579, 2511.9379), "DP3.002": (381.86, 2511.32), "DP1.001": (383.6579, 2511.9379)}


def _step(nm: Floats, centre: float, width: float) -> Floats:
    """Return a smooth rise from 0 to 1 around `centre` nm."""
    return 1.0 / (1.0 + np.exp(-(nm - centre) / width))


def _peak(nm: Floats, centre: float, width: float) -> Floats:
    """Return a Gaussian of height 1 at `centre` nm."""
    return np.exp(-0.5 * ((nm - centre) / width) ** 2)


def _leaf(nm: Floats, plateau: float, green: float, edge: float, water: float) -> Floats:
    """Return a leaf: a green peak between chlorophyll wells, the red edge at `edge` nm, a plateau, leaf water."""
    visible = 0.025 + green * _peak(nm, 552, 32) + 0.3 * green * _step(nm, 600, 30)
    deep = 1.0 - water * (0.85 * _peak(nm, 1450, 70) + 0.95 * _peak(nm, 1940, 90))
    shallow = 1.0 - water * (0.12 * _peak(nm, 970, 28) + 0.22 * _peak(nm, 1200, 45))
    fall = 1.0 - water * (0.35 * _step(nm, 1390, 40) + 0.4 * _step(nm, 2250, 150))
    return (visible + plateau * _step(nm, edge, 11)) * deep * shallow * fall


def _dry_vegetation(nm: Floats) -> Floats:
    cellulose = 1.0 - 0.22 * _peak(nm, 2100, 60) - 0.2 * _peak(nm, 2300, 45) - 0.12 * _peak(nm, 1730, 35)
    fall = (1.0 - 0.3 * _peak(nm, 1940, 80)) * (1.0 - 0.3 * _step(nm, 2000, 200))
    return _mineral(nm, 0.04, 0.43, 690, 120) * cellulose * fall


def _mineral(nm: Floats, low: float, high: float, centre: float, width: float) -> Floats:
    """Return a featureless rise from `low` to `high`."""
    return low + (high - low) * _step(nm, centre, width)


def _clay(nm: Floats, depth: float) -> Floats:
    """Return a factor with the hydroxyl bands of clay, `depth` at 2205 nm."""
    return 1.0 - depth * (_peak(nm, 2205, 22) + 0.7 * _peak(nm, 1410, 30) + 0.9 * _peak(nm, 1915, 40))


def _clay_roof(nm: Floats) -> Floats:
    iron = 1.0 - 0.25 * _peak(nm, 870, 70)
    return (_mineral(nm, 0.05, 0.34, 590, 22) + 0.12 * _step(nm, 1150, 120)) * iron * _clay(nm, 0.1)


def _iron_rich_soil(nm: Floats) -> Floats:
    return _mineral(nm, 0.02, 0.24, 610, 35) * (1.0 - 0.4 * _peak(nm, 900, 90)) * _clay(nm, 0.3)


def _plastic(nm: Floats) -> Floats:
    hydrocarbon = 1.0 - 0.45 * _peak(nm, 1730, 22) - 0.3 * _peak(nm, 1215, 20) - 0.55 * _peak(nm, 2310, 28)
    return (0.08 + 0.42 * _peak(nm, 470, 45) + 0.48 * _step(nm, 800, 40)) * hydrocarbon


def _gypsum_sand(nm: Floats) -> Floats:
    bound_water = 1.0 - 0.35 * _peak(nm, 1945, 55) - 0.4 * _peak(nm, 1449, 40)
    return _mineral(nm, 0.3, 0.68, 450, 60) * bound_water * (1.0 - 0.45 * _step(nm, 2150, 70))


def _concrete(nm: Floats) -> Floats:
    return _mineral(nm, 0.13, 0.37, 480, 90) * (1.0 - 0.15 * _peak(nm, 2335, 35)) * (1.0 - 0.12 * _peak(nm, 1940, 60))


# The first materials differ most, so that a small k is a well-posed mixing problem.
MATERIALS: Final[dict[str, Callable[[Floats], Floats]]] = {
    "green_vegetation": lambda nm: _leaf(nm, 0.46, 0.07, 716, 0.9),
    "bare_soil": lambda nm: _mineral(nm, 0.05, 0.38, 780, 170) * _clay(nm, 0.12),
    "water": lambda nm: 0.002 + 0.045 * _peak(nm, 540, 70) * (1.0 - 0.6 * _step(nm, 600, 20)),
    "metal_roof": lambda nm: 0.56 + 0.12 * _step(nm, 420, 18) - 0.42 * _step(nm, 1550, 240),
    "dry_vegetation": _dry_vegetation,
    "clay_roof": _clay_roof,
    "blue_plastic": _plastic,
    "asphalt": lambda nm: _mineral(nm, 0.055, 0.15, 900, 420) * (1.0 - 0.1 * _peak(nm, 2310, 40)),
    "conifer": lambda nm: _leaf(nm, 0.2, 0.05, 728, 0.6) + 0.02,
    "gypsum_sand": _gypsum_sand,
    "concrete": _concrete,
    "senescent_leaf": lambda nm: _leaf(nm, 0.3, 0.16, 655, 0.35),
    "iron_rich_soil": _iron_rich_soil,
    "turbid_water": lambda nm: 0.004 + 0.13 * _peak(nm, 640, 90) + 0.05 * _peak(nm, 810, 30),
}


def neon_wavelength(product: str, bands: int) -> Floats:
    """Return evenly spaced band centres (bands,) in nm, float64, over the range of NEON's `product`."""
    return np.linspace(*NEON_RANGE[product], bands)


def pure_spectra(names: Sequence[str], wavelength: Floats) -> Floats:
    """Return the reflectance (len(names), bands) float64, 0..0.7, of `MATERIALS` at `wavelength` (bands,) in nm."""
    spectra = np.stack([MATERIALS[name](wavelength) for name in names])
    # exp differs in its last bit from one processor to the next; six decimals do not
    return spectra.clip(0.0, 0.7).round(6)
