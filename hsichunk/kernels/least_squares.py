"""Least squares without the sum-to-one constraint: abundances of any sign, or of at least 0.

For k endmembers, G (k, k) holds the products of endmembers with each other and b (k,) those of a pixel with them. Both
are divided by the lengths of the endmembers, so that diag(G) is 1: a length does not change the answer, but it would
change the rounding. Rounding errors of abundances are about 1e-16 times the condition of G, which is the square of that
of the endmembers.
"""

from __future__ import annotations

import math

import numpy as np

from hsichunk.array_types import Bools, Floats, Ints
from hsichunk.kernels.compiled import compiled

LEAST_GAIN = 1e-13  # an endmember enters the set if its gradient is above this share of the pixel's largest product
PIVOT = 1e-14  # the square of a Cholesky pivot up to which a member is taken to depend on those before it

kernel = compiled(error_model="numpy")


@kernel
def _substitute(linear: Floats, members: Ints, m: int, factor: Floats, solution: Floats) -> None:
    """Solve for the first m members of a set, whose Cholesky factor is known."""
    for i in range(m):
        value = linear[members[i]]
        for c in range(i):
            value -= factor[i, c] * solution[c]
        solution[i] = value / factor[i, i]
    for i in range(m - 1, -1, -1):
        value = solution[i]
        for c in range(i + 1, m):
            value -= factor[c, i] * solution[c]
        solution[i] = value / factor[i, i]


@kernel
def _solve(gram: Floats, linear: Floats, members: Ints, m: int, factor: Floats, solution: Floats) -> bool:
    """Solve for the first m members of a set by Cholesky; return False where a member depends on those before it."""
    for i in range(m):
        for j in range(i + 1):
            value = gram[members[i], members[j]]
            for c in range(j):
                value -= factor[i, c] * factor[j, c]
            if i > j:
                factor[i, j] = value / factor[j, j]
            elif value > PIVOT:
                factor[i, i] = np.sqrt(value)
            else:
                return False
    _substitute(linear, members, m, factor, solution)
    return True


@kernel
def active_set(gram: Floats, linear: Floats, out: Floats) -> None:
    """Minimise 1/2 a'Ga - b'a, a >= 0 for each b of `linear` (n, k), into `out` (n, k), zeros at first; diag(G) = 1.

    Source: Lawson & Hanson 1974, on normal equations as Bro & de Jong 1997.
    """
    n, k = linear.shape
    members, position = np.zeros(k, np.int64), np.zeros(k, np.int64)
    refused = np.zeros(k, np.bool_)
    factor, solution = np.zeros((k, k)), np.zeros(k)
    for pixel in range(n):
        b, a = linear[pixel], out[pixel]
        largest = 0.0
        for i in range(k):
            largest = max(largest, abs(b[i]))
            position[i] = -1
            refused[i] = False
        m = 0
        for _ in range(10 * k + 10):
            best, most = -1, LEAST_GAIN * largest
            for i in range(k):
                if position[i] < 0 and not refused[i]:
                    gain = b[i]
                    for c in range(m):
                        gain -= gram[i, members[c]] * a[members[c]]
                    if gain > most:
                        best, most = i, gain
            if best < 0:
                break
            members[m] = best
            position[best] = m
            m += 1
            if not _solve(gram, b, members, m, factor, solution) or solution[m - 1] <= 0.0:
                m -= 1  # its gradient was rounding
                position[best] = -1
                refused[best] = True
                continue
            refused[:] = False
            m = _back_inside(gram, b, a, members, position, m, factor, solution)


@kernel
def _back_inside(
    gram: Floats, b: Floats, a: Floats, members: Ints, position: Ints, m: int, factor: Floats, solution: Floats
) -> int:
    """Move `a` towards the solution of the set; members leave as they reach zero. Return how many members stay."""
    while True:
        step = 2.0  # beyond the solution: no member reaches zero on the way
        for c in range(m):
            if solution[c] <= 0.0:
                here = a[members[c]]
                step = min(step, here / (here - solution[c]) if here > 0.0 else 0.0)
        if step == 2.0:
            for c in range(m):
                a[members[c]] = solution[c]
            return m
        stay = 0
        for c in range(m):
            i = members[c]
            leaves = solution[c] <= 0.0 and (a[i] <= 0.0 or a[i] / (a[i] - solution[c]) <= step)
            if leaves:
                a[i] = 0.0
                position[i] = -1
            else:
                a[i] += step * (solution[c] - a[i])
                members[stay] = i
                position[i] = stay
                stay += 1
        m = stay
        if m == 0 or not _solve(gram, b, members, m, factor, solution):
            return m


@kernel
def unconstrained(gram: Floats, linear: Floats, out: Floats) -> None:
    """Minimise 1/2 a'Ga - b'a for each b of `linear` (n, k), into `out` (n, k). G has an inverse."""
    n, k = linear.shape
    members = np.arange(k)
    factor, solution = np.zeros((k, k)), np.zeros(k)
    _solve(gram, linear[0] if n else solution, members, k, factor, solution)
    for pixel in range(n):
        _substitute(linear[pixel], members, k, factor, out[pixel])


@kernel
def certify(
    sums: Floats, linear: Floats, gram: Floats, solution: Floats, bounded: bool, bands: int, scale: float, valid: Bools,
    abundance: Floats, rmse: Floats, kkt: Floats,
) -> None:  # fmt: skip
    """From `solution` (n, k) and `sums` (rows, n): rmse in reflectance and violation of the optimality conditions.

    The solution goes as it is to `abundance` (k, n); all three are NaN at pixels that are not `valid`. kkt (n,) is the
    largest element of b - Ga that the conditions want 0 (with `bounded`, where a = 0, at most 0), over the length of
    the spectrum. The residual is |x|^2 - 2 a'b + a'Ga: where pixels are counts, its sums are exact.
    """
    n, k = solution.shape
    for j in range(n):
        if not valid[j]:
            abundance[:, j] = np.nan
            rmse[j] = kkt[j] = np.nan
            continue
        square, worst = sums[0, j], 0.0
        for i in range(k):
            rest = linear[j, i]
            for m in range(k):
                rest -= gram[i, m] * solution[j, m]
            square -= solution[j, i] * (linear[j, i] + rest)
            worst = max(worst, rest if bounded and solution[j, i] <= 0.0 else abs(rest))
            abundance[i, j] = solution[j, i]
        length = math.sqrt(sums[0, j])
        kkt[j] = worst / length if length > 0.0 else 0.0
        rmse[j] = math.sqrt(max(square, 0.0) / bands) / scale
