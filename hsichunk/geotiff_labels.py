"""What a GeoTIFF says of its bands: names, units, no data, wavelengths, class colours and class names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hsichunk.errors import HsiError
from hsichunk.palette import class_colors
from hsichunk.schema import CLASS_NO_DATA, NO_DATA, WAVELENGTH

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter


def describe(raster: DatasetWriter, data: xr.DataArray) -> None:
    """Write names, units and colours of data (band, y, x) into an open raster, before its pixels."""
    raster.descriptions = band_names(data)
    units = data.attrs.get("units")
    if isinstance(units, str):
        raster.units = (units,) * raster.count
    long_name = data.attrs.get("long_name")
    if isinstance(long_name, str):
        raster.update_tags(long_name=long_name)
    if data.dims[0] == WAVELENGTH and WAVELENGTH in data.coords:
        for band, nanometres in enumerate(data[WAVELENGTH].values.tolist(), 1):
            raster.update_tags(band, wavelength=nanometres, wavelength_units="nm")
            raster.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=nanometres / 1000)
    names = class_names(data)
    if names:
        colors = class_colors(len(names) - 1).tolist()
        raster.write_colormap(1, {value: (*color, 255) for value, color in enumerate(colors)})


def band_names(data: xr.DataArray) -> tuple[str, ...]:
    """The endmembers' names, or whatever labels the bands; the map's own name if it is one."""
    band = data.dims[0]
    given = data.attrs.get("long_name")
    if isinstance(given, tuple | list) and len(given) == data.shape[0]:
        return tuple(map(str, given))
    if band == WAVELENGTH and band in data.coords:
        return tuple(f"{nanometres:g} nm" for nanometres in data[band].values.tolist())
    if band in data.coords:
        return tuple(map(str, data[band].values.tolist()))
    if data.shape[0] == 1:
        return (str(data.name or given or "band 1"),)
    return tuple(f"{band} {number}" for number in range(1, data.shape[0] + 1))


def no_data(data: xr.DataArray) -> float | None:
    """NaN for floats, 255 for class maps and other bytes, else what the file it came from said."""
    if data.dtype.kind == "f":
        return float("nan")
    if data.dtype == np.uint8:
        return CLASS_NO_DATA
    stored: Any = data.attrs.get("_FillValue", data.encoding.get("_FillValue", data.attrs.get(NO_DATA)))
    return None if stored is None else float(stored)


def class_names(data: xr.DataArray) -> list[str]:
    """Names of the values 0..k of a class map (CF flag_values, flag_meanings); none for other data.

    Raises HsiError if there is not one meaning for each value.
    """
    values, meanings = data.attrs.get("flag_values"), data.attrs.get("flag_meanings")
    if values is None or meanings is None or data.dtype != np.uint8 or data.shape[0] != 1:
        return []
    texts = meanings.split()
    pairs = dict(zip(np.atleast_1d(values).astype(int).tolist(), texts, strict=False))
    if not len(pairs) == np.size(values) == len(texts):
        raise HsiError(f"found {np.size(values)} flag_values, {len(texts)} flag_meanings; give each value one meaning")
    classes = [value for value in pairs if 0 <= value < CLASS_NO_DATA]
    return [pairs.get(value, "") for value in range(max(classes, default=-1) + 1)]


# GDAL's columns of a table of classes (GDALRATFieldType, GDALRATFieldUsage); QGIS makes its legend of them
_INTEGER, _REAL, _TEXT = 0, 1, 2
_COLUMNS: Final = (
    ("Value", _INTEGER, 5),  # smallest and largest value of the class
    ("Count", _REAL, 1),  # integers end at 2**31
    ("Class", _TEXT, 2),
    ("Red", _INTEGER, 6),
    ("Green", _INTEGER, 7),
    ("Blue", _INTEGER, 8),
    ("Alpha", _INTEGER, 9),
)


def class_table(names: list[str], counts: NDArray[np.int64]) -> str:
    """GDAL's side-car (PAM) with the names, pixels and colours of classes, for which TIFF has no place.

    names: of the values 0..k; counts: pixels of each value (256,). The names stand there twice: as categories for GDAL,
    as a table for QGIS, whose legend would show all 256 colours of the palette else.
    """
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for name in names:
        ElementTree.SubElement(categories, "Category").text = name
    table = ElementTree.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (title, kind, usage) in enumerate(_COLUMNS):
        column = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", title), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(column, tag).text = str(value)
    for value, (name, color) in enumerate(zip(names, class_colors(len(names) - 1).tolist(), strict=True)):
        row = ElementTree.SubElement(table, "Row", index=str(value))
        for cell in (value, counts[value], name, *color, 255):
            ElementTree.SubElement(row, "F").text = str(cell)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
