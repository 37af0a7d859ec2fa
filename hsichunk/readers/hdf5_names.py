"""Find groups, datasets and attributes of an HDF5 file by name, and read single values of them.

Names are compared without regard to case, and with spaces equal to underscores. A value may be stored as a scalar, as
an array of one, as text or as bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from hsichunk.readers.model import AttributeValue

StoredValue: TypeAlias = str | bytes | np.generic | NDArray[np.generic] | h5py.Empty
"""an attribute or a whole dataset as h5py gives it"""


def group_in(parent: h5py.Group | None, *names: str) -> h5py.Group | None:
    """Return the group inside `parent` by any of its names; None where there is none, or no `parent`."""
    member = _member(parent, names)
    return member if isinstance(member, h5py.Group) else None


def dataset_in(parent: h5py.Group | None, *names: str) -> h5py.Dataset | None:
    """Return the dataset inside `parent` by any of its names; None where there is none, or no `parent`."""
    member = _member(parent, names)
    return member if isinstance(member, h5py.Dataset) else None


def _member(
    parent: h5py.Group | h5py.Dataset | None, names: Collection[str]
) -> h5py.Group | h5py.Dataset | h5py.Datatype | None:
    """Return the first member of `parent` that has one of the names; None where `parent` is no group."""
    if not isinstance(parent, h5py.Group):
        return None
    wanted = {_plain(name) for name in names}
    for key in parent:
        if _plain(key) in wanted:
            return parent[key]
    return None


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")


def attribute(owner: h5py.Group | h5py.Dataset, *names: str) -> StoredValue | None:
    """Return an attribute by any of its names; None where `owner` has none of them."""
    wanted = {_plain(name) for name in names}
    for key in owner.attrs:
        if _plain(key) in wanted:
            value: StoredValue = owner.attrs[key]
            return value
    return None


def number_of(value: StoredValue) -> float:
    """Return a value as one number, be it a scalar, an array of one or text.

    Raises ValueError or TypeError where it is none.
    """
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"expected one number, found {array.size}")
    first = array.ravel()[0]
    return float(first.decode() if isinstance(first, bytes) else first)


def text_of(value: StoredValue | None) -> str:
    """Return a value of text, bytes or str, as one str: items of an array are joined by commas. Empty for None."""
    if value is None:
        return ""
    return ", ".join(_decoded(item) for item in np.asarray(value).ravel()).strip()


def dataset_text(dataset: h5py.Dataset | None) -> str | None:
    """Return the text that a dataset holds, a scalar or an array; None for no dataset or no text."""
    return None if dataset is None else text_of(dataset[()]) or None


def _decoded(item: bytes | str | np.generic) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def attributes_of(dataset: h5py.Dataset, skip: Collection[str]) -> dict[str, AttributeValue]:
    """Return a dataset's attributes that are text or numbers, without those whose lower-case names are in `skip`."""
    attrs: dict[str, AttributeValue] = {}
    for key, value in dataset.attrs.items():
        array = np.asarray(value)
        if key.lower() in skip or array.size == 0 or array.dtype.kind not in "SOUiuf":
            continue
        if array.dtype.kind in "SOU":
            attrs[key] = text_of(value)
        else:
            attrs[key] = array.ravel()[0].item() if array.size == 1 else array
    return attrs
