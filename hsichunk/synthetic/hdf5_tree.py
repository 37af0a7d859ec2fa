"""Write the HDF5 tree around the counts of a NEON AOP reflectance tile: ancillary layers, coordinates, logs, angles.

Names, types and strings are those that NEON's own lessons print for SERC 2017 (.001 tile and flight line) and SERC
2025 (.002 tile).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict

import h5py
import numpy as np

from hsichunk import schema
from hsichunk.errors import HsiError

if TYPE_CHECKING:
    import numpy.typing as npt

    from hsichunk.array_types import Bools, Float32s, Floats


class Tile(NamedTuple):
    """The product, the site, the bands and the grid of a tile."""

    product: str
    site: str
    rows: int
    cols: int
    wavelength: Floats
    """Band centres in nm."""
    origin: tuple[float, float]
    """Easting and northing in m of the upper left corner of the upper left pixel."""
    pixel: float
    """Pixel size in m."""
    epsg: int


class LayerSpec(NamedTuple):
    """An ancillary layer whose values follow the relief from `low` to `high`."""

    dtype: str
    low: float
    high: float
    outside: float
    """The value where the tile has no data."""


class Storage(TypedDict):
    """How h5py's create_dataset stores the counts."""

    dtype: np.dtype[np.signedinteger]
    chunks: tuple[int, int, int] | Literal[True]
    """(rows, cols, bands), or True for h5py's own guess"""
    shuffle: bool
    compression: str | None
    compression_opts: int | None
    """the level"""


_COMMON: Final = {
    "Aspect": LayerSpec("f4", 0, 360, -9999),
    "Dark_Dense_Vegetation_Classification": LayerSpec("u1", 3, 3, 0),
    "Haze_Cloud_Water_Map": LayerSpec("u1", 5, 5, 241),
    "Path_Length": LayerSpec("f4", 980, 1020, -9999),
    "Slope": LayerSpec("f4", 0, 30, -9999),
    "Smooth_Surface_Elevation": LayerSpec("f4", 0, 60, -9999),
}
_DIRECTIONAL: Final = {
    "Aerosol_Optical_Depth": LayerSpec("i2", 120, 180, -9999),
    "Cast_Shadow": LayerSpec("u1", 0, 0, 241),
    "Illumination_Factor": LayerSpec("u1", 80, 100, 241),
    "Sky_View_Factor": LayerSpec("u1", 90, 100, 241),
    "Visibility_Index_Map": LayerSpec("u1", 20, 40, 241),
}
_MOSAIC: Final = {
    "Data_Selection_Index": LayerSpec("i4", 5, 5, -1),
    "Water_Vapor_Column": LayerSpec("f4", 1.8, 2.2, -9999),
}
_CLOUD: Final = "Weather_Quality_Indicator"  # colours in .001, classes in .002
_CLEAR: Final = (0, 255, 0)
_LAYERS: Final[dict[str, dict[str, LayerSpec]]] = {
    "DP3.001": _COMMON | _DIRECTIONAL | _MOSAIC | {_CLOUD: LayerSpec("u1", 0, 0, 0)},
    "DP3.002": _COMMON
    | _MOSAIC
    | {
        "Acquisition_Date": LayerSpec("i4", 20250612, 20250612, -9999),
        "Aerosol_Optical_Thickness": LayerSpec("f4", 0.12, 0.18, -9999),
        "Cast_Shadow": LayerSpec("f4", 0, 0, -9999),
        "Illumination_Factor": LayerSpec("f4", 80, 100, -9999),
        "Sky_View_Factor": LayerSpec("f4", 90, 100, -9999),
        "Visibility_Index_Map": LayerSpec("f4", 20, 40, -9999),
        _CLOUD: LayerSpec("i4", 1, 1, 0),
    },
    "DP1.001": _COMMON | _DIRECTIONAL | {"Water_Vapor_Column": LayerSpec("i2", 1800, 2200, -9999)},
}
_LINES: Final = {"DP3.001": ("152340", "153105"), "DP3.002": ("L003-1_20250612", "L004-1_20250612"), "DP1.001": ()}
_BRDF_LOGS: Final = ("BRDF_COEFFS_JSON_for_Hytools", "BRDF_Config_JSON_for_Hytools")


def write_tree(file: h5py.File, tile: Tile, relief: Float32s, valid: Bools, storage: Storage) -> h5py.Dataset:
    """Write all but the counts into `file` and return the empty Reflectance_Data (rows, cols, bands).

    `relief` (rows, cols) 0..1 shapes the ancillary layers; `valid` (rows, cols) is True where the tile has data.
    """
    reflectance = file.create_group(f"{tile.site}/Reflectance")
    for i, window in enumerate(schema.NEON_WINDOWS, start=1):
        reflectance.attrs[f"Band_Window_{i}_Nanometers"] = np.array(window, np.int64)
    metadata = reflectance.create_group("Metadata")
    _write_ancillary(metadata.create_group("Ancillary_Imagery"), tile, relief, valid)
    _write_coordinates(metadata.create_group("Coordinate_System"), tile)
    _write_spectral(metadata.create_group("Spectral_Data"), tile)
    _write_logs(metadata.create_group("Logs"), tile)
    for angle, low, high in (("Azimuth_Angle", 90, 270), ("Zenith_Angle", 0, 20)):
        name = f"to-sensor_{angle.lower() if tile.product == 'DP3.001' else angle}"
        _write_layer(metadata, name, LayerSpec("f4", low, high, -9999), relief, valid)
    if tile.product == "DP1.001":
        _write_trajectory(metadata.create_group("Flight_Trajectory"), tile)
    data = reflectance.create_dataset("Reflectance_Data", (tile.rows, tile.cols, tile.wavelength.size), **storage)
    data.attrs.update(_reflectance_attrs(tile))
    return data


def _reflectance_attrs(tile: Tile) -> dict[str, str | float | npt.NDArray[np.generic]]:
    left, top = tile.origin
    extent = [left, left + tile.cols * tile.pixel, top - tile.rows * tile.pixel, top]
    return {
        "Cloud_conditions": "For cloud conditions information see Weather Quality Index dataset.",
        "Cloud_type": "Cloud type may have been selected from multiple flight trajectories.",
        "Data_Ignore_Value": float(schema.NEON_NO_DATA),
        "Description": "Atmospherically corrected reflectance.",
        "Dimension_Labels": "Line, Sample, Wavelength",
        "Dimensions": np.array([tile.rows, tile.cols, tile.wavelength.size], np.int64),
        "Interleave": "BSQ",  # what NEON writes, although the array is pixel-interleaved
        "Scale_Factor": schema.NEON_SCALE,
        "Spatial_Extent_meters": np.array(extent),
        "Spatial_Resolution_X_Y": np.array([tile.pixel, tile.pixel]),
        "Units": "Unitless.",
        "Units_Valid_range": np.array([0, 10000], np.int64),
    }


def _write_ancillary(group: h5py.Group, tile: Tile, relief: Float32s, valid: Bools) -> None:
    for name, layer in sorted(_LAYERS[tile.product].items()):
        if name == _CLOUD and tile.product == "DP3.001":
            colours = np.where(valid[:, :, np.newaxis], np.array(_CLEAR, np.uint8), np.uint8(0))
            _write_compressed(group, name, colours)
        else:
            _write_layer(group, name, layer, relief, valid)


def _write_layer(group: h5py.Group, name: str, layer: LayerSpec, relief: Float32s, valid: Bools) -> None:
    values = np.full(valid.shape, layer.outside, layer.dtype)
    # Class codes have low == high, and must not pass through float32.
    values[valid] = layer.low if layer.low == layer.high else layer.low + (layer.high - layer.low) * relief[valid]
    _write_compressed(group, name, values)
    if layer.outside == schema.NEON_NO_DATA:
        group[name].attrs["Data_Ignore_Value"] = float(layer.outside)


def _write_compressed(group: h5py.Group, name: str, values: npt.NDArray[np.generic]) -> None:
    layer = group.create_dataset(name, data=values, chunks=True, compression="gzip", compression_opts=3)
    layer.flush()  # a full disk must raise here: h5py drops errors of objects that go out of use


def _write_coordinates(group: h5py.Group, tile: Tile) -> None:
    family, zone = divmod(tile.epsg, 100)
    if family not in (326, 327) or not 1 <= zone <= 60:
        raise HsiError(f"EPSG {tile.epsg} is not UTM on WGS 84; give 32601 to 32660 or 32701 to 32760")
    south = "" if family == 326 else " +south"
    texts = {
        "Coordinate_System_String": _utm_wkt(zone, north=family == 326),
        "EPSG Code": str(tile.epsg),
        "Map_Info": _map_info(tile, zone, north=family == 326),
        "Proj4": f"+proj=UTM +zone={zone}{south} +ellps=WGS84 +datum=WGS84 +units=m +no_defs",
    }
    _write_texts(group, texts)


def _map_info(tile: Tile, zone: int, *, north: bool) -> str:
    """Return ENVI's map info as each of NEON's processors prints it: reference pixel, its corner, pixel size, zone."""
    (x, y), size = tile.origin, tile.pixel
    if tile.product == "DP3.001":
        gap, numbers = "  ", [_digits(v, f"{v:#.8g}").rjust(14) for v in (x, y, size, size)]
    elif tile.product == "DP3.002":
        gap, numbers = "  ", [_digits(x, f"{x:.3f}"), _digits(y, f"{y:.3f}"), *[_digits(size, f"{size:.6e}")] * 2]
    else:
        exponent = f"{size:.10e}".replace("e+", "e+0").replace("e-", "e-0")
        gap, numbers = " ", [_digits(x, f"{x:.3f}"), _digits(y, f"{y:.3f}"), *[_digits(size, exponent)] * 2]
    half = "North" if north else "South"
    fields = ["1.000", "1.000", *numbers, str(zone), half, "WGS-84", "units=Meters"]
    return "UTM" + "".join(f",{gap}{field}" for field in fields) + ("" if tile.product == "DP1.001" else ", 0")


def _digits(value: float, text: str) -> str:
    """Return a number as NEON prints it, `text`, unless that would change its value."""
    return text if float(text) == value else repr(float(value))


def _utm_wkt(zone: int, *, north: bool) -> str:
    return (
        f'PROJCS["WGS 84 / UTM zone {zone}{"N" if north else "S"}",GEOGCS["WGS 84",DATUM["WGS_1984",'
        'SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{6 * zone - 183}],PARAMETER["scale_factor",0.9996],'
        f'PARAMETER["false_easting",500000],PARAMETER["false_northing",{0 if north else 10000000}],'
        'UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    )


def _write_spectral(group: h5py.Group, tile: Tile) -> None:
    dtype = "f4" if tile.product == "DP3.001" else "f8"
    fwhm = 5.6 + 0.4 * np.linspace(-1.0, 1.0, tile.wavelength.size) ** 2
    if tile.product == "DP1.001":
        fwhm = fwhm[:-5]  # as NEON has it: SERC's flight line of 2017 has 421 widths for 426 bands
    centres = group.create_dataset("Wavelength", data=tile.wavelength.astype(dtype))
    centres.attrs.update({"Description": "Central wavelength of the reflectance bands.", "Units": "nanometers"})
    widths = group.create_dataset("FWHM", data=fwhm.astype(dtype))
    widths.attrs.update({"Description": "Full width half maximum of the reflectance bands.", "Units": "nanometers"})


def _write_logs(group: h5py.Group, tile: Tile) -> None:
    line = tile.product == "DP1.001"
    names = ["ATCOR_input_file" if line else "ATCOR_Input_file"]
    names += ["ATCOR_Processing_Log", "Shadow_Processing_Log", "Skyview_Processing_Log"]
    texts = {name: f"Synthetic tile: no {name}." for name in names}
    if tile.product == "DP3.002":
        texts |= dict.fromkeys(_BRDF_LOGS, "{}")
    for log in [group] if line else [group.create_group(name) for name in _LINES[tile.product]]:
        _write_texts(log, texts)
        log.create_dataset("Solar_Azimuth_Angle", data=np.array(139.6, "f8" if line else "f4"))
        log.create_dataset("Solar_Zenith_Angle", data=np.array(31.2, "f8" if line else "f4"))


def _write_trajectory(group: h5py.Group, tile: Tile) -> None:
    seconds = np.linspace(0.0, tile.rows / 60.0, tile.rows)[:, np.newaxis]
    group.create_dataset("Flight_Altitude", data=np.full_like(seconds, 1000.0))
    group.create_dataset("Flight_Heading", data=np.full_like(seconds, 180.0))
    group.create_dataset("Flight_Time", data=seconds)


def _write_texts(group: h5py.Group, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        group.create_dataset(name, data=text, dtype=h5py.string_dtype())
