"""Write the names and colours of classes as GDAL's side-car file, because TIFF has no place for names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from hsichunk.array_types import Ints
from hsichunk.classification.palette import class_colors

# GDAL's columns of a table of classes (GDALRATFieldType, GDALRATFieldUsage), from which QGIS makes its legend
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


def class_table(names: Sequence[str], counts: Ints) -> str:
    """Return GDAL's side-car (PAM) with the names, pixels and colours of classes.

    names: those of the values 0..k; counts: pixels of each value (256,). The text holds the names twice: as categories
    for GDAL, and as a table for QGIS, whose legend would otherwise show all 256 colours of the palette.
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
