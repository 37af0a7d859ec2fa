"""More ways to say how near a spectrum is to an endmember, and class maps from what is largest, not smallest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hsichunk import schema
from hsichunk.blockwise import Floats, endmember_coord, labelled, on_pixels
from hsichunk.checks import check_cube, check_endmembers
from hsichunk.class_labels import SIMILARITY_RULE, label_nearest
from hsichunk.classification import (
    HIGH,
    LOW,
    check_distance,
    class_names,
    classify,
    described,
    over_classes,
)
from hsichunk.errors import HsiError
from hsichunk.kernels import sums
from hsichunk.unmixing import in_one_pass, unmix


def sid_sam(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """SID times the tangent of SAM: float32 (endmember, y, x), nats; 0 for equal shapes, larger for less alike.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance. Both come from the one pass of `unmix`.
    Infinite at angles of 90 degrees and above, which reflectance of at least 0 never has. NaN where any band of a pixel
    is; lazy for a dask cube. Source: Du et al. 2004, the SID(TAN) mixed measure.
    """
    both = unmix(cube, endmembers, (schema.SAM, schema.SID))
    angle = both[schema.SAM].astype(np.float64)
    tangent: Any = np.tan(angle)
    beyond = tangent.where((angle < np.pi / 2) | angle.isnull(), np.inf)
    product = (both[schema.SID] * beyond).astype(np.float32)
    attrs = schema.PRODUCT_ATTRS[schema.SID_SAM]
    return labelled(
        product.data, both[schema.SAM], product.dims, schema.SID_SAM, attrs, {schema.ENDMEMBER: both[schema.ENDMEMBER]}
    )


def ncc(cube: xr.DataArray, endmembers: xr.DataArray, *, distance: bool = False) -> xr.DataArray:
    """Pearson's correlation over bands with each endmember: float32 (endmember, y, x), -1 to 1, 1 for equal shapes.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. With `distance`,
    1 - r instead: 0 to 2, what `classify` takes; `classify_similarity` takes r itself. A spectrum that is the same in
    every band has correlation 0. NaN where any band of a pixel is; lazy for a dask cube. Raises HsiError for
    wavelengths that differ.
    """
    cube = check_cube(cube)
    spectra, names = check_endmembers(endmembers, cube)
    apart = spectra - spectra.mean(1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", apart, apart))[:, None]
    unit = np.divide(apart, length, out=np.zeros_like(apart), where=length > 0)
    found = on_pixels(cube, partial(_ncc, unit=unit, distance=distance), len(names))
    attrs = dict(schema.PRODUCT_ATTRS[schema.NCC])
    if distance:
        attrs["long_name"] = f"1 - {attrs['long_name']}"
    return labelled(found, cube, (schema.ENDMEMBER, schema.Y, schema.X), schema.NCC, attrs, endmember_coord(names))


def chebyshev(cube: xr.DataArray, endmembers: xr.DataArray) -> xr.DataArray:
    """Largest difference in any band from each endmember: float32 (endmember, y, x), in reflectance.

    cube (y, x, wavelength), endmembers (endmember, wavelength) in reflectance, on the same bands. It comes from the
    one pass of `unmix`, as a run's does. NaN where any band of a pixel is; lazy for a dask cube. Raises HsiError for
    wavelengths that differ.
    """
    return in_one_pass(check_cube(cube), endmembers, (schema.CHEBYSHEV,))[schema.CHEBYSHEV]


def _ncc(x: Floats, unit: Floats, distance: bool) -> Floats:
    """Spectra (n, L) and centred endmembers of unit length (p, L) to correlations (n, p)."""
    by_band = np.ascontiguousarray(x.T)
    bands, n = by_band.shape
    mean = np.zeros((1, n))
    sums.add_products(np.full((1, bands), 1.0 / bands), by_band, mean)
    flat = (by_band == by_band[0]).all(0)  # whatever its mean was rounded to
    by_band -= mean
    square, product = np.zeros(n), np.zeros((len(unit), n))
    sums.add_dots(by_band, by_band, square)
    sums.add_products(unit, by_band, product)
    length = np.where(flat | (square <= 0), np.inf, np.sqrt(square))
    correlation = np.clip(product / length, -1.0, 1.0)
    return 1.0 - correlation.T if distance else correlation.T


def classify_similarity(
    similarity: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[Any],
    *,
    relative: bool = False,
    limits: xr.Dataset | None = None,
) -> xr.DataArray:
    """Label every pixel with the endmember it is most similar to: `classify` for what is larger for the more alike.

    similarity: float (endmember, y, x), as `ncc`; NaN = no data. Absolute: similarity >= threshold. `relative=True` is
    the rule of PySpTools' NormXCorr: threshold 0..1 and similarity > high - (high - low) * threshold, where low and
    high are, for one number, those of the largest similarity of each pixel and, for one per class, those of each class.
    `limits` are those of `similarity_range`, computed, so that a dask-backed map streams.
    Returns what `classify` does: uint8 (y, x), 0 unclassified, 1..k, 255 no data.
    """
    check_distance(similarity)
    opposite = (-similarity).assign_attrs(similarity.attrs)
    opposite.encoding = dict(similarity.encoding)
    if relative:
        label = classify(
            opposite,
            threshold,
            relative=True,
            limits=similarity_range(similarity, together=np.ndim(threshold) == 0) if limits is None else limits,
        )
        label.attrs["threshold_rule"] = "similarity > high - (high - low) * threshold"
        label.attrs["long_name"] = f"class of the largest {similarity.attrs.get('long_name') or similarity.name}"
        return label
    return _absolute(opposite, threshold)


def classify_abundance(
    abundance: xr.DataArray,
    threshold: float | Sequence[float] | npt.NDArray[Any],
    *,
    relative: bool = False,
) -> xr.DataArray:
    """Label every pixel with the endmember there is most of, where its abundance is at least `threshold`.

    abundance: float (endmember, y, x), NaN = no data. `relative=True` is the rule of PySpTools'
    AbundanceClassification, label for label: threshold 0..1 and abundance > low + (high - low) * threshold, with
    the ranges of `classify_similarity`. Returns what `classify` does.
    """
    if not relative:
        return classify_similarity(abundance, threshold)
    fraction = np.asarray(threshold)
    if fraction.dtype.kind not in "iuf" or not ((fraction >= 0) & (fraction <= 1)).all():
        raise HsiError(f"threshold is {threshold!r}; expected fractions from 0 to 1 (relative=True)")
    label = classify_similarity(abundance, 1.0 - fraction, relative=True)
    label.attrs["threshold"] = fraction.tolist()
    label.attrs["threshold_rule"] = "abundance > low + (high - low) * threshold"
    return label


def similarity_range(similarity: xr.DataArray, *, together: bool) -> xr.Dataset:
    """low and high (endmember) of the negated similarities, for `classify_similarity(relative=True, limits=)`; lazy.

    `together`: those of the largest similarity of each pixel, for one threshold; else each class's own.
    """
    finite = similarity.where(np.isfinite(similarity)).astype(np.float64)
    pixels = (schema.Y, schema.X)
    if together:
        largest = finite.max(schema.ENDMEMBER)
        ends = largest.max(pixels), largest.min(pixels)
        low, high = ((-end).expand_dims({schema.ENDMEMBER: similarity.sizes[schema.ENDMEMBER]}) for end in ends)
    else:
        low, high = -finite.max(pixels), -finite.min(pixels)
    limits = xr.Dataset({LOW: low, HIGH: high}).reset_coords(drop=True)
    if schema.ENDMEMBER in similarity.coords:
        limits = limits.assign_coords({schema.ENDMEMBER: similarity[schema.ENDMEMBER]})
    return limits


def _absolute(opposite: xr.DataArray, threshold: Any) -> xr.DataArray:
    """`classify` of negated similarities, whose thresholds are negative, which it refuses."""
    names = class_names(opposite)
    try:
        values = np.asarray(threshold, np.float64)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if values.shape not in ((), (len(names),)) or not np.isfinite(values).all():
        raise HsiError(f"threshold is {threshold!r}; expected one finite number, or {len(names)}, one per class")
    if opposite.chunks is not None:
        opposite = opposite.chunk({schema.ENDMEMBER: -1})
    limit = -np.broadcast_to(values, len(names)).astype(opposite.dtype)
    label = over_classes(label_nearest, [opposite], {"limit": limit, "closed": True})
    label = label.transpose(schema.Y, schema.X)
    return described(label, opposite, names, values, SIMILARITY_RULE, relative=False, largest=True)
