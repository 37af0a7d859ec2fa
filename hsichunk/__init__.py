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
    "as_cube": "cube",
    "mask": "lazy_mask",
    "clean": "cleaning",
    "nfindr": "endmembers",
    "unmix": "unmixing",
    "fcls": "unmixing",
    "sam": "unmixing",
    "sid": "unmixing",
    "classify": "classification",
    "minmax": "scaling",
    "write_zarr": "zarr_store",
    "write_envi": "exporting",
    "write_geotiff": "geotiff",
    "ucls": "abundance",
    "nnls": "abundance",
    "abundance_std": "abundance",
    "sid_sam": "similarity",
    "ncc": "similarity",
    "chebyshev": "similarity",
    "classify_similarity": "largest",
    "classify_abundance": "largest",
    "matched_filter": "detection",
    "ace": "detection",
    "cem": "detection",
    "glrt": "detection",
    "osp": "detection",
    "pca": "transforms",
    "mnf": "transforms",
    "whiten": "transforms",
    "continuum_removed": "spectral",
    "savgol": "spectral",
    "predict": "learning",
    "fit_sample": "learning",
    "atgp": "extraction",
    "ppi": "extraction",
    "ppi_votes": "extraction",
    "fippi": "extraction",
    "vca": "extraction",
    "bundles": "extraction",
    "read_library": "library",
    "write_library": "library",
    "resample": "resampling",
    "identify": "matching",
    "open_image": "readers.images",
    "audit": "auditing",
    "moments": "second_moments",
    "hfc": "counting",
    "nwhfc": "counting",
    "hysime": "counting",
    "HsiError": "errors",
    "HsiWarning": "errors",
}
_MODULES = ("plot", "synthetic")

__all__ = [*_PUBLIC, *_MODULES]

if TYPE_CHECKING:
    from hsichunk import plot as plot
    from hsichunk import synthetic as synthetic
    from hsichunk.abundance import abundance_std as abundance_std
    from hsichunk.abundance import nnls as nnls
    from hsichunk.abundance import ucls as ucls
    from hsichunk.auditing import audit as audit
    from hsichunk.classification import classify as classify
    from hsichunk.cleaning import clean as clean
    from hsichunk.counting import hfc as hfc
    from hsichunk.counting import hysime as hysime
    from hsichunk.counting import nwhfc as nwhfc
    from hsichunk.cube import as_cube as as_cube
    from hsichunk.detection import ace as ace
    from hsichunk.detection import cem as cem
    from hsichunk.detection import glrt as glrt
    from hsichunk.detection import matched_filter as matched_filter
    from hsichunk.detection import osp as osp
    from hsichunk.endmembers import nfindr as nfindr
    from hsichunk.errors import HsiError as HsiError
    from hsichunk.errors import HsiWarning as HsiWarning
    from hsichunk.exporting import write_envi as write_envi
    from hsichunk.extraction import atgp as atgp
    from hsichunk.extraction import bundles as bundles
    from hsichunk.extraction import fippi as fippi
    from hsichunk.extraction import ppi as ppi
    from hsichunk.extraction import ppi_votes as ppi_votes
    from hsichunk.extraction import vca as vca
    from hsichunk.geotiff import write_geotiff as write_geotiff
    from hsichunk.largest import classify_abundance as classify_abundance
    from hsichunk.largest import classify_similarity as classify_similarity
    from hsichunk.lazy_mask import mask as mask
    from hsichunk.learning import fit_sample as fit_sample
    from hsichunk.learning import predict as predict
    from hsichunk.library import read_library as read_library
    from hsichunk.library import write_library as write_library
    from hsichunk.matching import identify as identify
    from hsichunk.mosaic.mosaic import open_mosaic as open_mosaic
    from hsichunk.readers.images import open_image as open_image
    from hsichunk.readers.tiles import open_tile as open_tile
    from hsichunk.resampling import resample as resample
    from hsichunk.scaling import minmax as minmax
    from hsichunk.second_moments import moments as moments
    from hsichunk.similarity import chebyshev as chebyshev
    from hsichunk.similarity import ncc as ncc
    from hsichunk.similarity import sid_sam as sid_sam
    from hsichunk.spectral import continuum_removed as continuum_removed
    from hsichunk.spectral import savgol as savgol
    from hsichunk.transforms import mnf as mnf
    from hsichunk.transforms import pca as pca
    from hsichunk.transforms import whiten as whiten
    from hsichunk.unmixing import fcls as fcls
    from hsichunk.unmixing import sam as sam
    from hsichunk.unmixing import sid as sid
    from hsichunk.unmixing import unmix as unmix
    from hsichunk.zarr_store import write_zarr as write_zarr


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
