"""Names and attributes of the ancillary layers of a NEON file, in every product version.

Sources: NEON.DOC.001288 (ATBD reflectance), the trees printed in NEON's lessons, and the class tables of the
Earth Engine catalogue of the same product. Names are compared without case; misspellings that NEON shipped are listed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from hsichunk import schema
from hsichunk.readers.model import AttributeValue

NAMES: Final = {
    "acquisition_date": "acquisition_date",
    "acqusition_date": "acquisition_date",  # 2022 LIRO
    "aerosol_optical_depth": "aerosol_optical_depth",
    "aerosol_optical_thickness": "aerosol_optical_depth",
    "aspect": "aspect",
    "cast_shadow": "cast_shadow",
    "dark_dense_vegetation_classification": "dark_dense_vegetation",
    "data_selection_index": "data_selection_index",
    "haze_cloud_water_map": "haze_cloud_water",
    "haze_water_cloud_map": "haze_cloud_water",
    "illumination_factor": "illumination_factor",
    "path_length": "path_length",
    "sky_view_factor": "sky_view_factor",
    "slope": "slope",
    "smooth_surface_elevation": "surface_elevation",
    "visibility_index_map": "visibility_index",
    "water_vapor_column": "water_vapor_column",
    "weather_quality_indicator": "weather_quality",
    "to-sensor_azimuth_angle": "sensor_azimuth_angle",
    "to-sensor_zenith_angle": "sensor_zenith_angle",
    "solar_azimuth_angle": "solar_azimuth_angle",
    "solar_zenith_angle": "solar_zenith_angle",
}
"""name in the file (lower case) -> name in the dataset; any other layer keeps its own name, in lower case"""

NO_DATA: Final = {
    "data_selection_index": -1,
    "weather_quality": 0,
    "cast_shadow": 241,
    "haze_cloud_water": 241,
    "illumination_factor": 241,
    "sky_view_factor": 241,
    "visibility_index": 241,
}
"""no-data values of layers whose file does not state one; source: NEON's own Python reader"""


def _flags(values: range, meanings: str) -> dict[str, AttributeValue]:
    """Return CF's attributes of flags: the values and, in one text, their meanings."""
    return {"flag_values": values, "flag_meanings": meanings}


HAZE: Final = (
    "background shadow thin_cirrus_over_water medium_cirrus_over_water thick_cirrus_over_water clear_land saturated "
    "snow_or_ice thin_cirrus_over_land medium_cirrus_over_land thick_cirrus_over_land thin_haze_over_land "
    "medium_haze_over_land thin_haze_or_glint_over_water medium_haze_or_glint_over_water cloud_over_land "
    "cloud_over_water water cirrus_cloud thick_cirrus_cloud bright topographic_shadow cloud_or_building_shadow"
)

ATTRS: Final[dict[str, dict[str, AttributeValue]]] = {
    "acquisition_date": {"long_name": "acquisition date, YYYYMMDD"},
    "aerosol_optical_depth": {
        "long_name": "aerosol optical depth at 550 nm",
        "standard_name": "atmosphere_optical_thickness_due_to_ambient_aerosol_particles",
    },
    "aspect": {"long_name": "aspect of the surface, clockwise from north", "units": "degree"},
    "cast_shadow": {"long_name": "cast shadow (polarity differs between releases: look before masking)"},
    "dark_dense_vegetation": {
        "long_name": "dark dense vegetation classification",
        **_flags(range(5), "background water dark_dense_vegetation not_reference topographic_shadow"),
    },
    "data_selection_index": {"long_name": "index of the flight line that the pixel comes from"},
    "haze_cloud_water": {"long_name": "haze, cloud and water map", **_flags(range(23), HAZE)},
    "illumination_factor": {"long_name": "illumination factor", "units": "percent"},
    "path_length": {"long_name": "path length from surface to sensor", "units": "m"},
    "sky_view_factor": {"long_name": "sky view factor", "units": "percent"},
    "slope": {"long_name": "slope of the surface", "units": "degree"},
    "surface_elevation": {"long_name": "smoothed surface elevation", "standard_name": "surface_altitude", "units": "m"},
    "visibility_index": {"long_name": "visibility index"},
    "water_vapor_column": {
        "long_name": "water vapour column, as depth of liquid water",
        "standard_name": "lwe_thickness_of_atmosphere_mass_content_of_water_vapor",
        "units": "cm",
    },
    "weather_quality": {"long_name": "weather quality: cloud cover during acquisition"},
    "sensor_azimuth_angle": {"standard_name": "sensor_azimuth_angle", "units": "degree"},
    "sensor_zenith_angle": {"standard_name": "sensor_zenith_angle", "units": "degree"},
    "solar_azimuth_angle": {"standard_name": "solar_azimuth_angle", "units": "degree"},
    "solar_zenith_angle": {"standard_name": "solar_zenith_angle", "units": "degree"},
}
CLOUD_COVER: Final = _flags(range(1, 4), "below_10_percent 10_to_50_percent above_50_percent")
CLOUD_COLOURS: Final = {
    "comment": "red, green, blue: (0,255,0) below 10 %, (255,255,0) 10 to 50 %, (255,0,0) above 50 %"
}


def name_of(key: str, taken: Collection[str]) -> str:
    """Return the variable's name of a layer that the file calls `key`; a number follows where the name is taken."""
    plain = name = NAMES.get(key.lower(), key.lower())
    number = 1
    while name in taken:
        number += 1
        name = f"{plain}_{number}"
    return name


def layer_attributes(
    name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], stored: Mapping[str, AttributeValue]
) -> dict[str, AttributeValue]:
    """Return the attributes of an ancillary variable: CF's where they are known, beside the file's own (`stored`).

    CF's override the file's. Values stay as stored: scale and no-data are not applied, but named by the same attributes
    as those of the reflectance.
    """
    renamed = {"scale_factor": schema.SCALE, "data_ignore_value": schema.NO_DATA}
    attrs = {renamed.get(key.lower(), key): value for key, value in stored.items()}
    has_colours = len(shape) == 3
    if name in NO_DATA and not has_colours and (name == "data_selection_index" or dtype.kind != "f"):
        attrs.setdefault(schema.NO_DATA, NO_DATA[name])
    attrs |= ATTRS.get(name, {})
    if name == "weather_quality":  # three colours in .001, one class in .002
        attrs |= CLOUD_COLOURS if has_colours else CLOUD_COVER
    if name == "water_vapor_column" and dtype.kind != "f":  # flight lines store whole numbers of 0.001 cm
        attrs["units"] = "0.001 cm"
    if "flag_values" in attrs:  # CF wants them in the type of the variable
        attrs["flag_values"] = np.array(attrs["flag_values"], dtype.newbyteorder("="))
    return attrs
