"""Endmembers, abundance maps and class maps from imaging-spectroscopy tiles that do not fit in memory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hsichunk.version import __version__ as __version__

# name -> module that holds it: imported when first used, so that the command line starts at once. No module bears the
# name of a function: importing it would put the module in the function's place.
_PUBLIC = {
    "open_tile": "readers.tiles",
    "open_mosaic": "mosaic.mosaic",
    "as_cube": "cube.from_array",
    "mask": "cube.masks.lazy",
    "clean": "cube.cleaning",
    "nfindr": "endmembers.nfindr",
    "unmix": "unmixing.unmixing",
    "fcls": "unmixing.unmixing",
    "sam": "unmixing.unmixing",
    "sid": "unmixing.unmixing",
    "classify": "classification.class_maps",
    "minmax": "cube.scaling",
    "write_zarr": "writers.zarr_store",
    "write_envi": "writers.envi",
    "write_geotiff": "writers.geotiff",
    "ucls": "unmixing.abundance",
    "nnls": "unmixing.abundance",
    "abundance_std": "unmixing.abundance",
    "sid_sam": "unmixing.similarity",
    "ncc": "unmixing.similarity",
    "chebyshev": "unmixing.similarity",
    "classify_similarity": "classification.similarities",
    "classify_abundance": "classification.similarities",
    "matched_filter": "analysis.detection",
    "ace": "analysis.detection",
    "cem": "analysis.detection",
    "glrt": "analysis.detection",
    "osp": "analysis.detection",
    "pca": "analysis.transforms",
    "mnf": "analysis.transforms",
    "whiten": "analysis.transforms",
    "continuum_removed": "analysis.spectral_filters",
    "savgol": "analysis.spectral_filters",
    "predict": "analysis.scikit_learn",
    "fit_sample": "analysis.scikit_learn",
    "atgp": "endmembers.extraction",
    "ppi": "endmembers.extraction",
    "ppi_votes": "endmembers.extraction",
    "fippi": "endmembers.extraction",
    "vca": "endmembers.extraction",
    "bundles": "endmembers.extraction",
    "read_library": "endmembers.library",
    "write_library": "endmembers.library",
    "resample": "endmembers.resampling",
    "identify": "endmembers.matching",
    "open_image": "readers.images",
    "audit": "results.audit",
    "moments": "cube.second_moments",
    "hfc": "endmembers.counting",
    "nwhfc": "endmembers.counting",
    "hysime": "endmembers.counting",
    "HsiError": "errors",
    "HsiWarning": "errors",
}
_MODULES = ("plot", "synthetic")

__all__ = [*_PUBLIC, *_MODULES]

if TYPE_CHECKING:
    from hsichunk import plot as plot
    from hsichunk import synthetic as synthetic
    from hsichunk.analysis.detection import ace as ace
    from hsichunk.analysis.detection import cem as cem
    from hsichunk.analysis.detection import glrt as glrt
    from hsichunk.analysis.detection import matched_filter as matched_filter
    from hsichunk.analysis.detection import osp as osp
    from hsichunk.analysis.scikit_learn import fit_sample as fit_sample
    from hsichunk.analysis.scikit_learn import predict as predict
    from hsichunk.analysis.spectral_filters import continuum_removed as continuum_removed
    from hsichunk.analysis.spectral_filters import savgol as savgol
    from hsichunk.analysis.transforms import mnf as mnf
    from hsichunk.analysis.transforms import pca as pca
    from hsichunk.analysis.transforms import whiten as whiten
    from hsichunk.classification.class_maps import classify as classify
    from hsichunk.classification.similarities import classify_abundance as classify_abundance
    from hsichunk.classification.similarities import classify_similarity as classify_similarity
    from hsichunk.cube.cleaning import clean as clean
    from hsichunk.cube.from_array import as_cube as as_cube
    from hsichunk.cube.masks.lazy import mask as mask
    from hsichunk.cube.scaling import minmax as minmax
    from hsichunk.cube.second_moments import moments as moments
    from hsichunk.endmembers.counting import hfc as hfc
    from hsichunk.endmembers.counting import hysime as hysime
    from hsichunk.endmembers.counting import nwhfc as nwhfc
    from hsichunk.endmembers.extraction import atgp as atgp
    from hsichunk.endmembers.extraction import bundles as bundles
    from hsichunk.endmembers.extraction import fippi as fippi
    from hsichunk.endmembers.extraction import ppi as ppi
    from hsichunk.endmembers.extraction import ppi_votes as ppi_votes
    from hsichunk.endmembers.extraction import vca as vca
    from hsichunk.endmembers.library import read_library as read_library
    from hsichunk.endmembers.library import write_library as write_library
    from hsichunk.endmembers.matching import identify as identify
    from hsichunk.endmembers.nfindr import nfindr as nfindr
    from hsichunk.endmembers.resampling import resample as resample
    from hsichunk.errors import HsiError as HsiError
    from hsichunk.errors import HsiWarning as HsiWarning
    from hsichunk.mosaic.mosaic import open_mosaic as open_mosaic
    from hsichunk.readers.images import open_image as open_image
    from hsichunk.readers.tiles import open_tile as open_tile
    from hsichunk.results.audit import audit as audit
    from hsichunk.unmixing.abundance import abundance_std as abundance_std
    from hsichunk.unmixing.abundance import nnls as nnls
    from hsichunk.unmixing.abundance import ucls as ucls
    from hsichunk.unmixing.similarity import chebyshev as chebyshev
    from hsichunk.unmixing.similarity import ncc as ncc
    from hsichunk.unmixing.similarity import sid_sam as sid_sam
    from hsichunk.unmixing.unmixing import fcls as fcls
    from hsichunk.unmixing.unmixing import sam as sam
    from hsichunk.unmixing.unmixing import sid as sid
    from hsichunk.unmixing.unmixing import unmix as unmix
    from hsichunk.writers.envi import write_envi as write_envi
    from hsichunk.writers.geotiff import write_geotiff as write_geotiff
    from hsichunk.writers.zarr_store import write_zarr as write_zarr


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"hsichunk.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"hsichunk.{name}")
    else:
        raise AttributeError(f"module 'hsichunk' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
