"""The metrics that measure how near a spectrum is to an endmember: one row each.

A new metric needs a row here, its formula in `hsichunk.kernels.scores`, a call in `hsichunk.unmixing.scoring` and an
independent implementation in `hsichunk.results.reference`, with which `hsichunk audit` compares it.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

# sums over bands of spectra x that only some metrics need, beside those of x^2 and x e
LOGARITHMS: Final = "logarithms"
"""x, x ln q, q ln x and x ln x, of counts raised to SID's floor, for shares q of endmembers"""
PLAIN_SUM: Final = "plain_sum"
"""x, not raised to the floor"""
FURTHEST: Final = "furthest"
"""the largest |x - e|: a maximum in place of a sum"""

SCA: Final = "sca"


class Metric(NamedTuple):
    """A score of each endmember in each pixel, and the rule that makes a class map of it."""

    name: str
    """name of the variable, of the option and, with "_class", of the class map"""
    title: str
    """name in print, for class maps in the report and the viewer"""
    long_name: str
    units: str
    threshold: float
    """default threshold of a class"""
    limit: str
    """what the threshold is, for the help of the option"""
    classes: str
    """what the class map shows, for catalogues"""
    sums: frozenset[str] = frozenset()
    """optional sums that the metric needs"""
    larger_is_nearer: bool = False
    """True for a similarity: the largest score wins, and must reach the threshold"""
    lowest: float = 0.0
    """smallest threshold that makes sense"""
    highest: float = math.inf
    """largest threshold that makes sense"""


METRICS: Final = (
    Metric(
        name="sam",
        title="SAM",
        long_name="spectral angle",
        units="rad",
        threshold=0.1,
        limit="Largest spectral angle (rad) of a class",
        classes="classes of the smallest spectral angle",
    ),
    Metric(
        name="sid",
        title="SID",
        long_name="spectral information divergence",
        units="nat",
        threshold=0.05,
        limit="Largest divergence (nats) of a class",
        classes="classes of the smallest information divergence",
        sums=frozenset({LOGARITHMS}),
    ),
    Metric(
        name="sid_sam",
        title="SID-SAM",
        long_name="spectral information divergence times tangent of spectral angle",
        units="nat",
        threshold=0.005,
        limit="Largest divergence times tangent of the angle (nats) of a class",
        classes="classes of the smallest information divergence times tangent of the spectral angle",
        sums=frozenset({LOGARITHMS}),
    ),
    Metric(
        name="ncc",
        title="NCC",
        long_name="normalised cross correlation",
        units="1",
        threshold=0.9,
        limit="Smallest correlation of a class",
        classes="classes of the largest normalised cross correlation",
        sums=frozenset({PLAIN_SUM}),
        larger_is_nearer=True,
        lowest=-1.0,
        highest=1.0,
    ),
    Metric(
        name="chebyshev",
        title="Chebyshev",
        long_name="Chebyshev distance",
        units="1",
        threshold=0.1,
        limit="Largest difference (reflectance) of a class in any band",
        classes="classes of the smallest Chebyshev distance",
        sums=frozenset({FURTHEST}),
    ),
    Metric(
        name=SCA,
        title="SCA",
        long_name="spectral correlation angle",
        units="rad",
        threshold=0.1,
        limit="Largest correlation angle (rad) of a class",
        classes="classes of the smallest spectral correlation angle",
        sums=frozenset({PLAIN_SUM}),
    ),
)
"""in the order in which their scores are stored"""
BY_NAME: Final = {metric.name: metric for metric in METRICS}
