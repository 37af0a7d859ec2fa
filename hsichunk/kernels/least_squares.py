"""Least squares without the sum to one: abundances of any sign, or of at least 0, from products of spectra.

G (p, p) are the products of endmembers with each other, b (p,) those of a pixel with them, both over the lengths of the
endmembers, so that diag(G) is 1: a column's length is no part of the answer, but of the rounding. What rounding leaves
in abundances is about 1e-16 times the condition of G, which is that of the endmembers squared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hsichunk.kernels.compiled import compiled

LEAST_GAIN = 1e-13  # gradient over the largest of a pixel's products from which an endmember comes in
PIVOT = 1e-14

kernel = compiled(error_model="numpy")


@kernel
def _substitute(linear: Any, members: Any, m: int, factor: Any, found: Any) -> None:
    """The solution on the first m members of a set by their Cholesky factor."""
    for i in range(m):
        value = linear[members[i]]
        for k in range(i):
            value -= factor[i, k] * found[k]
        found[i] = value / factor[i, i]
    for i in range(m - 1, -1, -1):
        value = found[i]
        for k in range(i + 1, m):
            value -= factor[k, i] * found[k]
        found[i] = value / factor[i, i]


@kernel
def _solve(gram: Any, linear: Any, members: Any, m: int, factor: Any, found: Any) -> bool:
    """Least squares on the first m members of a set, by Cholesky; False where the last one adds nothing new."""
    for i in range(m):
        for j in range(i + 1):
            value = gram[members[i], members[j]]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = value / factor[j, j]
            elif value > PIVOT:
                factor[i, i] = np.sqrt(value)
            else:
                return False
    _substitute(linear, members, m, factor, found)
    return True


@kernel
def active_set(gram: Any, linear: Any, out: Any) -> None:
    """min 1/2 a'Ga - b'a, a >= 0 for each b of `linear` (n, p), into `out` (n, p), zeros at first; diag(G) = 1."""
    n, p = linear.shape
    members, place = np.zeros(p, np.int64), np.zeros(p, np.int64)
    refused = np.zeros(p, np.bool_)
    factor, found = np.zeros((p, p)), np.zeros(p)
    for pixel in range(n):
        b, a = linear[pixel], out[pixel]
        largest = 0.0
        for i in range(p):
            largest = max(largest, abs(b[i]))
            place[i] = -1
            refused[i] = False
        m = 0
        for _ in range(10 * p + 10):
            best, most = -1, LEAST_GAIN * largest
            for i in range(p):
                if place[i] < 0 and not refused[i]:
                    gain = b[i]
                    for k in range(m):
                        gain -= gram[i, members[k]] * a[members[k]]
                    if gain > most:
                        best, most = i, gain
            if best < 0:
                break
            members[m] = best
            place[best] = m
            m += 1
            if not _solve(gram, b, members, m, factor, found) or found[m - 1] <= 0.0:
                m -= 1  # its gradient was rounding
                place[best] = -1
                refused[best] = True
                continue
            refused[:] = False
            m = _back_inside(gram, b, a, members, place, m, factor, found)


@kernel
def _back_inside(gram: Any, b: Any, a: Any, members: Any, place: Any, m: int, factor: Any, found: Any) -> int:
    """From `a` towards the solution of the set, members leaving as they reach zero; the number that stay."""
    while True:
        step = 2.0  # beyond the solution: nothing is in the way
        for k in range(m):
            if found[k] <= 0.0:
                here = a[members[k]]
                step = min(step, here / (here - found[k]) if here > 0.0 else 0.0)
        if step == 2.0:
            for k in range(m):
                a[members[k]] = found[k]
            return m
        kept = 0
        for k in range(m):
            i = members[k]
            leaves = found[k] <= 0.0 and (a[i] <= 0.0 or a[i] / (a[i] - found[k]) <= step)
            if leaves:
                a[i] = 0.0
                place[i] = -1
            else:
                a[i] += step * (found[k] - a[i])
                members[kept] = i
                place[i] = kept
                kept += 1
        m = kept
        if m == 0 or not _solve(gram, b, members, m, factor, found):
            return m


@kernel
def unconstrained(gram: Any, linear: Any, out: Any) -> None:
    """min 1/2 a'Ga - b'a for each b of `linear` (n, p), into `out` (n, p). G has an inverse."""
    n, p = linear.shape
    members = np.arange(p)
    factor, found = np.zeros((p, p)), np.zeros(p)
    _solve(gram, linear[0] if n else found, members, p, factor, found)
    for pixel in range(n):
        _substitute(linear[pixel], members, p, factor, out[pixel])


@kernel
def certify(
    sums: Any, linear: Any, gram: Any, found: Any, bounded: bool, bands: int, scale: float, valid: Any,
    abundance: Any, rmse: Any, kkt: Any,
) -> None:  # fmt: skip
    """From `found` (n, p) and `sums` (rows, n): rmse in reflectance and the violation of the optimality conditions.

    Abundances go to `abundance` (p, n) as they are, all three NaN at pixels that are not `valid`. kkt (n,): the largest
    element of b - Ga that the conditions want 0 (with `bounded`, where a = 0, at most 0), over the length of the
    spectrum. The residual is |x|^2 - 2 a'b + a'Ga, from sums that are exact.
    """
    n, p = found.shape
    for j in range(n):
        if not valid[j]:
            abundance[:, j] = np.nan
            rmse[j] = kkt[j] = np.nan
            continue
        square, worst = sums[0, j], 0.0
        for i in range(p):
            rest = linear[j, i]
            for m in range(p):
                rest -= gram[i, m] * found[j, m]
            square -= found[j, i] * (linear[j, i] + rest)
            worst = max(worst, rest if bounded and found[j, i] <= 0.0 else abs(rest))
            abundance[i, j] = found[j, i]
        length = math.sqrt(sums[0, j])
        kkt[j] = worst / length if length > 0.0 else 0.0
        rmse[j] = math.sqrt(max(square, 0.0) / bands) / scale
