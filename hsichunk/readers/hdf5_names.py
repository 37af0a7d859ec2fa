"""Members and attributes of an HDF5 file by what they are called, whatever their case and however they are wrapped."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np


def child(group: Any, *names: str) -> Any:
    """A member by any of its names, without regard to case or to spaces against underscores; None when absent."""
    if not hasattr(group, "keys"):
        return None
    wanted = {_plain(name) for name in names}
    for key in group:
        if _plain(key) in wanted:
            return group[key]
    return None


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_")


def attribute(owner: Any, *names: str) -> Any:
    """An attribute by any of its names without case, or None."""
    wanted = {_plain(name) for name in names}
    for key in owner.attrs:
        if _plain(key) in wanted:
            return owner.attrs[key]
    return None


def number(value: Any) -> float:
    """A scalar, whether stored as one, as an array of one or as text. Raises ValueError or TypeError for others."""
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"expected one number, found {array.size}")
    first = array.ravel()[0]
    return float(first.decode() if isinstance(first, bytes) else first)


def text(node: Any) -> str | None:
    """The text of a dataset, scalar or an array of one; None without one."""
    if not hasattr(node, "shape"):
        return None
    return words(node[()]) or None


def attributes(owner: Any, skip: Collection[str]) -> dict[str, Any]:
    """A dataset's own attributes as plain values, less those whose lower-case names are in `skip`."""
    out: dict[str, Any] = {}
    for key, value in owner.attrs.items():
        array = np.asarray(value)
        if key.lower() in skip or array.size == 0 or array.dtype.kind not in "SOUiuf":
            continue
        if array.dtype.kind in "SOU":
            out[key] = words(value)
        else:
            out[key] = array.ravel()[0].item() if array.size == 1 else array
    return out


def words(value: Any) -> str:
    """An attribute of text, scalar or array, bytes or str, as one str; empty for None."""
    items: Any = () if value is None else np.asarray(value).ravel()
    return ", ".join(_decoded(item) for item in items).strip()


def _decoded(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
