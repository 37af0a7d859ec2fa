"""Figures of eigenvalues and of how many of them are counted as endmembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hsichunk.errors import HsiError
from hsichunk.schema import COMPONENT, FAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_counts(result: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues, or powers, and how many of them count, on a logarithmic axis. Return the Axes.

    Takes the Dataset of `hfc`, `nwhfc` or `hysime`; raises HsiError for any other. Without `ax`, the Axes are those of
    a new pyplot figure.
    """
    import matplotlib.pyplot as plt

    ax = plt.figure(layout="constrained").gca() if ax is None else ax
    names = [str(n) for n in result.data_vars if result[n].dims == (COMPONENT,) and n != "cost"]
    if not names or "count" not in result:
        raise HsiError("nothing to plot; expected what hfc, nwhfc or hysime give")
    for name in names:
        values = result[name].values
        ax.semilogy(result[COMPONENT], np.where(values > 0, values, np.nan), label=name.replace("_", " "))
    counts = np.atleast_1d(result["count"].values)
    rates = np.atleast_1d(result[FAR].values) if FAR in result.coords else [None]
    for i, (count, rate) in enumerate(zip(counts, rates, strict=True)):
        label = f"{count}" if rate is None else f"{count} (false alarms {rate:g})"
        ax.axvline(count + 0.5, color="0.4", linestyle=("--", ":", "-.")[i % 3], label=label)
    ax.set(xlabel="component", title=f"{result.attrs['method']}: {', '.join(str(c) for c in counts)}")
    ax.legend()
    return ax
