"""Names of variables and attributes, defaults and units that more than one module uses."""

from __future__ import annotations

from typing import Final

from hsichunk import metrics

# dimensions and coordinates
Y: Final = "y"
X: Final = "x"
WAVELENGTH: Final = "wavelength"
ENDMEMBER: Final = "endmember"
FWHM: Final = "fwhm"
COMPONENT: Final = "component"
FAR: Final = "far"
GRID_MAPPING: Final = "spatial_ref"

# variables
REFLECTANCE: Final = "reflectance"
ABUNDANCE: Final = "abundance"
RMSE: Final = "rmse"
SAM: Final = "sam"
SID: Final = "sid"
SID_SAM: Final = "sid_sam"
NCC: Final = "ncc"
NCC_DISTANCE: Final = "ncc_distance"
CHEBYSHEV: Final = "chebyshev"
WEIGHTED: Final = "weighted"  # weighted sums of bands, of which other values are computed: not a product
KKT: Final = "kkt"
SAM_CLASS: Final = "sam_class"
SID_CLASS: Final = "sid_class"

# attributes of a stored reflectance variable
SCALE: Final = "scale_factor_stored"  # counts per unit reflectance; not CF's scale_factor, which xarray would apply
NO_DATA: Final = "data_ignore_value"
COUNTS_PER_UNIT: Final = "counts_per_unit"  # of a cube: its values are whole counts over this
WINDOWS: Final = "bad_band_windows"  # flat [low, high, low, high, ...] in nm
DROP_LAST: Final = "drop_last_bands"  # number of bad bands at the end, where it is not NEON's ten

# products of the pass, in the order in which they are stored
PRODUCTS: Final = (ABUNDANCE, RMSE, SAM, SID)
ALL_PRODUCTS: Final = (*PRODUCTS, KKT)
PER_ENDMEMBER: Final = frozenset({ABUNDANCE, *metrics.BY_NAME, NCC_DISTANCE, WEIGHTED})

# choices of a run: how endmembers are found, how abundances are constrained, which scores get a class map
METHODS: Final = ("nfindr", "atgp", "ppi", "fippi", "vca")
FCLS: Final = "fcls"
NNLS: Final = "nnls"
UCLS: Final = "ucls"
CONSTRAINTS: Final = {FCLS: "fully constrained", NNLS: "nonnegative", UCLS: "unconstrained"}
METRICS: Final = tuple(metrics.BY_NAME)
SIMILARITIES: Final = frozenset(m.name for m in metrics.METRICS if m.larger_is_nearer)
CLASS_OF: Final = {metric: f"{metric}_class" for metric in METRICS}
THRESHOLDS: Final = {m.name: m.threshold for m in metrics.METRICS}
HALF: Final = 0.5  # from this abundance on, an endmember makes up at least half of a pixel

# class maps
UNCLASSIFIED: Final = 0
CLASS_NO_DATA: Final = 255
MAX_ENDMEMBERS: Final = 254

# NEON's values, used with a warning where a file states none
NEON_SCALE: Final = 10000.0
NEON_NO_DATA: Final = -9999
NEON_WINDOWS: Final = ((1340.0, 1445.0), (1790.0, 1955.0))
NEON_DROP_LAST: Final = 10

# SID, and no other metric, reads reflectance below this floor as the floor
SID_FLOOR: Final = 1e-4

WAVELENGTH_ATTRS: Final[dict[str, str]] = {
    "units": "nm",
    "standard_name": "radiation_wavelength",
    "long_name": "wavelength",
}
FWHM_ATTRS: Final[dict[str, str]] = {"units": "nm", "long_name": "full width at half maximum"}
Y_ATTRS: Final[dict[str, str]] = {
    "units": "m",
    "standard_name": "projection_y_coordinate",
    "long_name": "northing of pixel centre",
    "axis": "Y",
}
X_ATTRS: Final[dict[str, str]] = {
    "units": "m",
    "standard_name": "projection_x_coordinate",
    "long_name": "easting of pixel centre",
    "axis": "X",
}
PRODUCT_ATTRS: Final[dict[str, dict[str, str]]] = {
    REFLECTANCE: {"units": "1", "standard_name": "surface_bidirectional_reflectance", "long_name": "reflectance"},
    ABUNDANCE: {"units": "1", "long_name": "abundance (fully constrained least squares)"},
    RMSE: {"units": "1", "long_name": "root mean square residual of the abundances, in reflectance"},
    **{m.name: {"units": m.units, "long_name": m.long_name} for m in metrics.METRICS},
    NCC_DISTANCE: {"units": "1", "long_name": "1 - normalised cross correlation"},
    KKT: {"units": "1", "long_name": "Karush-Kuhn-Tucker violation of the abundances, relative"},
}


def abundance_attrs(constraint: str) -> dict[str, str]:
    """Return the attributes of abundances for a constraint: "fcls", "nnls" or "ucls"."""
    return {"units": "1", "long_name": f"abundance ({CONSTRAINTS[constraint]} least squares)"}
