"""Fully constrained least squares: projection on a simplex by support maps (Heinz & Chang 2001; Judice & Pires 1994).

Per pixel: minimise 1/2 a'Ga - b'a subject to a >= 0 and sum(a) = 1, where G (p, p) is the Gram matrix of the endmembers less
a fixed spectrum and b (p,) the products of the pixel, less the same spectrum, with them. On each support one affine map of b
gives the abundances on it and the multipliers off it; where none is negative, that is the optimum and its own proof.

An answer depends on (G, b) alone: every pixel starts from the full support, each sum has one order, nothing is left to BLAS.
It is all in one module because numba's cache watches only the file of the function that was called.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PIXELS, PIVOTS, MOST_PIVOTS, FALLBACKS, RESETS = range(5)  # what `stats` counts

MAX_MAPPED = 13  # endmembers up to which the maps of all supports fit 16 MiB; beyond, supports are factorised per pixel
SLAB = 256  # pixels that share one visit to the cache
LANES = 4  # rows of a map that are summed side by side
PATIENCE = 3  # block exchanges without gain before single ones
ROUNDING = 8 * 2.0**-52  # a multiplier below this share of its terms is zero
SINGULAR = 1e-14  # a Cholesky pivot below this share of the scale is none
UNKNOWN, REGULAR, DEPENDENT = 0, 1, 2  # supports: map not built, map built, has none


class Table(NamedTuple):
    """Support maps of one Gram matrix, built as they occur, and working space; private to a thread."""

    gram: Floats  # (p, p) the matrix that the maps are of, as given; NaN before the first use
    scaled: Floats  # (p, p) the same over `scale`
    scale: Floats  # (1,) the power of two just above the largest diagonal element
    known: npt.NDArray[np.uint8]  # (2^p,) UNKNOWN, REGULAR or DEPENDENT; bit i of the index is endmember i
    maps: Floats  # (2^p, rows / 4, p + 2, 4) coefficients of b, constant, rounding of each row
    members: Ints  # (p + 1,)
    factor: Floats  # (p + 1, p + 2)
    right: Floats  # (p, p)
    vectors: Floats  # (6, p + 4)
    slab: Floats  # (3, p, SLAB) products, abundances, residuals


def new_table(p: int) -> Table:
    """An empty table for p endmembers, at most 16 MiB."""
    supports = 2**p if p <= MAX_MAPPED else 1
    return Table(
        gram=np.full((p, p), np.nan),
        scaled=np.empty((p, p)),
        scale=np.ones(1),
        known=np.zeros(supports, np.uint8),
        maps=np.empty((supports, -(-p // LANES), p + 2, LANES)),
        members=np.zeros(p + 1, np.int64),
        factor=np.empty((p + 1, p + 2)),
        right=np.empty((p, p)),
        vectors=np.zeros((6, p + LANES)),
        slab=np.zeros((3, p, SLAB + 8)),
    )


@njit(nogil=True, cache=True)
def _bind(gram: Floats, table: Table) -> None:
    """Empty the table if its maps are of another Gram matrix."""
    p = gram.shape[0]
    same = True
    largest = 0.0
    for i in range(p):
        largest = max(largest, gram[i, i])
        for j in range(p):
            same &= gram[i, j] == table.gram[i, j]
    if same:
        return
    scale = 1.0
    if 0.0 < largest < np.inf:
        while scale <= largest:
            scale *= 2.0
        while 0.5 * scale > largest:
            scale *= 0.5
    table.scale[0] = scale
    table.known[:] = UNKNOWN
    for i in range(p):
        for j in range(p):
            table.gram[i, j] = gram[i, j]
            table.scaled[i, j] = gram[i, j] / scale


@njit(nogil=True, cache=True)
def _factorise(gram: Floats, members: Ints, m: int, factor: Floats) -> bool:
    """Cholesky factor of the Gram matrix of the differences from the first member; False if it has none."""
    r = members[0]
    for i in range(m - 1):
        u = members[i + 1]
        for j in range(i + 1):
            v = members[j + 1]
            value = (gram[u, v] - gram[u, r]) - (gram[r, v] - gram[r, r])
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = value / factor[j, j]
            elif value > SINGULAR:
                factor[i, i] = np.sqrt(value)
            else:
                return False
    return True


@njit(nogil=True, cache=True)
def _build(inside: Bools, at: int, table: Table) -> None:
    """Write the map of a support: row t gives a_t if t is on it, else its multiplier over the scale.

    With r the first member, c = b - G[:, r] and H the Gram matrix of the differences e_k - e_r: on the support
    H a = c - c_r, off it w_j = h_j'a - (c_j - c_r). Rows are solved one by one (not columns), which keeps the error
    of a row times a consistent b proportional to the condition of H, not to its square.
    """
    gram, factor, right, members = table.scaled, table.factor, table.right, table.members
    p = gram.shape[0]
    m = 0
    for i in range(p):
        if inside[i]:
            members[m] = i
            m += 1
    if not _factorise(gram, members, m, factor):
        table.known[at] = DEPENDENT
        return
    table.known[at] = REGULAR
    r = members[0]
    for k in range(1, m):
        u = members[k]
        for t in range(p):
            if inside[t]:
                right[k - 1, t] = -1.0 if t == r else 0.0
            else:
                right[k - 1, t] = (gram[u, t] - gram[u, r]) - (gram[r, t] - gram[r, r])
        right[k - 1, u] = 1.0
    for k in range(m - 1):
        for i in range(k):
            for t in range(p):
                right[k, t] -= factor[k, i] * right[i, t]
        for t in range(p):
            right[k, t] /= factor[k, k]
    for k in range(m - 2, -1, -1):
        for i in range(k + 1, m - 1):
            for t in range(p):
                right[k, t] -= factor[i, k] * right[i, t]
        for t in range(p):
            right[k, t] /= factor[k, k]
    _store(inside, m, at, table)


@njit(nogil=True, cache=True)
def _store(inside: Bools, m: int, at: int, table: Table) -> None:
    """From solved rows to coefficients of b as given (not scaled), the constant and the rounding of each row."""
    gram, right, members, scale = table.scaled, table.right, table.members, table.scale[0]
    maps = table.maps[at]
    p = gram.shape[0]
    r = members[0]
    maps[:] = 0.0
    for t in range(p):
        block, lane = t // LANES, t % LANES
        total = 0.0
        size = 0.0
        constant = 0.0
        for k in range(1, m):
            u = members[k]
            value = right[k - 1, t]
            total += value
            size += abs(value)
            constant -= value * (gram[u, r] - gram[r, r])
            maps[block, u, lane] = value / scale
        if inside[t]:
            maps[block, r, lane] = -total / scale
            maps[block, p, lane] = constant + (1.0 if t == r else 0.0)
        else:
            maps[block, r, lane] = (1.0 - total) / scale
            maps[block, t, lane] = -1.0 / scale
            maps[block, p, lane] = constant + (gram[t, r] - gram[r, r])
            maps[block, p + 1, lane] = -ROUNDING * (2.0 + size + abs(1.0 - total)) / scale


@njit(nogil=True, cache=True)
def _apply(maps: Floats, at: int, b: Floats, one: float, z: Floats) -> None:
    """z = map of (b, one)."""
    p = maps.shape[2] - 2
    for block in range(maps.shape[1]):
        z0 = maps[at, block, p, 0] * one
        z1 = maps[at, block, p, 1] * one
        z2 = maps[at, block, p, 2] * one
        z3 = maps[at, block, p, 3] * one
        for j in range(p):
            z0 += maps[at, block, j, 0] * b[j]
            z1 += maps[at, block, j, 1] * b[j]
            z2 += maps[at, block, j, 2] * b[j]
            z3 += maps[at, block, j, 3] * b[j]
        z[LANES * block] = z0
        z[LANES * block + 1] = z1
        z[LANES * block + 2] = z2
        z[LANES * block + 3] = z3


@njit(nogil=True, cache=True)
def _direct(b: Floats, inside: Bools, table: Table, z: Floats, floor: Floats) -> bool:
    """Abundances on a support and multipliers off it by one factorisation, for when there are too many supports to keep."""
    gram, factor, members, scale = table.scaled, table.factor, table.members, table.scale[0]
    p = b.size
    m = 0
    for i in range(p):
        if inside[i]:
            members[m] = i
            m += 1
    if not _factorise(gram, members, m, factor):
        return False
    r = members[0]
    for k in range(m - 1):
        u = members[k + 1]
        value = (b[u] - b[r]) / scale - (gram[u, r] - gram[r, r])
        for i in range(k):
            value -= factor[k, i] * floor[i]
        floor[k] = value / factor[k, k]
    for k in range(m - 2, -1, -1):
        value = floor[k]
        for i in range(k + 1, m - 1):
            value -= factor[i, k] * floor[i]
        floor[k] = value / factor[k, k]
    for i in range(p):
        z[i] = 0.0
    z[r] = 1.0
    size = 0.0
    for k in range(m - 1):
        z[members[k + 1]] = floor[k]
        z[r] -= floor[k]
        size += abs(floor[k])
    for t in range(p):
        floor[t] = 0.0
        if not inside[t]:
            value = (gram[t, r] - gram[r, r]) - (b[t] - b[r]) / scale
            for k in range(1, m):
                u = members[k]
                value += ((gram[u, t] - gram[u, r]) - (gram[r, t] - gram[r, r])) * z[u]
            z[t] = value
            floor[t] = -ROUNDING * (2.0 + 2.0 * size) / scale
    return True


@njit(nogil=True, cache=True)
def _full_map(x: Floats, n: int, one: Floats, maps: Floats, out: Floats) -> None:
    """The map of the full support (the last) for all pixels of a slab, row by row."""
    p = x.shape[0]
    last = maps.shape[0] - 1
    for i in range(p):
        block, lane = i // LANES, i % LANES
        for k in range(n):
            out[i, k] = maps[last, block, p, lane] * one[k]
        for j in range(p):
            for k in range(n):
                out[i, k] += maps[last, block, j, lane] * x[j, k]


@njit(nogil=True, cache=True)
def _pivot(products, abundance, n, pending, cap: int, table, known, maps, vectors, inside, scale, stats: Ints):
    """Block principal pivoting: all infeasible members change sides; when that stops to help, the lowest alone (finite)."""
    p = products.shape[0]
    mapped = p <= MAX_MAPPED
    b, z, floor = vectors[0, :p], vectors[1], vectors[2]
    for k in range(n):
        if pending[k] != 1:
            continue
        largest = scale
        for i in range(p):
            b[i] = products[i, k]
            z[i] = abundance[i, k]
            floor[i] = 0.0
            inside[i] = True
            largest = max(largest, abs(b[i]))
        fewest = p + 1
        patience = PATIENCE
        pivots = 0
        at = 0
        while True:
            count = 0
            for i in range(p):
                count += z[i] < floor[i] * largest
            if count == 0:
                break
            if pivots + 1 >= cap:
                at = -1
                break
            block = True
            if count < fewest:
                fewest = count
                patience = PATIENCE
            elif patience > 0:
                patience -= 1
            else:
                block = False
            for i in range(p):
                if z[i] < floor[i] * largest:
                    inside[i] = not inside[i]
                    if not block:
                        break
            pivots += 1
            if mapped:
                at = 0
                for i in range(p):
                    at |= inside[i] << i
                if known[at] == UNKNOWN:
                    _build(inside, at, table)
                if known[at] == DEPENDENT:
                    at = -1
                    break
                _apply(maps, at, b, 1.0, z)
                for i in range(p):
                    floor[i] = maps[at, i >> 2, p + 1, i & 3]
            elif not _direct(b, inside, table, z, floor):
                at = -1
                break
        stats[PIVOTS] += pivots
        stats[MOST_PIVOTS] = max(stats[MOST_PIVOTS], pivots)
        pending[k] = 2 if at < 0 else 0
        for i in range(p):
            abundance[i, k] = z[i] if inside[i] else 0.0


@njit(nogil=True, cache=True)
def _face(gram: Floats, b: Floats, members: Ints, m: int, system: Floats) -> bool:
    """Optimum on the plane of m members, left in column m + 1: elimination with row exchanges on the bordered system."""
    for i in range(m):
        for j in range(m):
            system[i, j] = gram[members[i], members[j]]
        system[i, m] = 1.0
        system[m, i] = 1.0
        system[i, m + 1] = b[members[i]]
    system[m, m] = 0.0
    system[m, m + 1] = 1.0
    for k in range(m + 1):
        best = k
        for i in range(k + 1, m + 1):
            if abs(system[i, k]) > abs(system[best, k]):
                best = i
        if not abs(system[best, k]) > SINGULAR:
            return False
        for j in range(k, m + 2):
            system[k, j], system[best, j] = system[best, j], system[k, j]
        for i in range(k + 1, m + 1):
            share = system[i, k] / system[k, k]
            for j in range(k + 1, m + 2):
                system[i, j] -= share * system[k, j]
    for k in range(m, -1, -1):
        for j in range(k + 1, m + 1):
            system[k, m + 1] -= system[k, j] * system[j, m + 1]
        system[k, m + 1] /= system[k, k]
    return True


@njit(nogil=True, cache=True)
def _settle(gram: Floats, b: Floats, a: Floats, members: Ints, m: int, system: Floats) -> int:
    """Move a to the optimum over its m members, dropping those that reach zero on the way; members left."""
    while True:
        if not _face(gram, b, members, m, system):
            return m - 1  # the newest, last in the list, depends on the others
        share = 1.0
        blocked = False
        for i in range(m):
            target = system[i, m + 1]
            if target <= 0.0:
                now = a[members[i]]
                share = min(share, now / (now - target)) if now > 0.0 else 0.0
                blocked = True
        left = 0
        for i in range(m):
            k = members[i]
            target = system[i, m + 1]
            stays = target > 0.0 or (a[k] > 0.0 and a[k] / (a[k] - target) > share)
            a[k] = a[k] + share * (target - a[k]) if blocked else target
            if stays:
                members[left] = k
                left += 1
            else:
                a[k] = 0.0
        m = left
        if not blocked:
            return m


@njit(nogil=True, cache=True)
def _active_set(linear: Floats, table: Table, a: Floats, b: Floats, slope: Floats, barred: Floats) -> int:
    """Primal active set from the best vertex (Lawson & Hanson), sharing nothing with the maps; gives the steps taken."""
    gram, members, system = table.scaled, table.members, table.factor
    p = a.size
    start = 0
    largest = 1.0
    for i in range(p):
        b[i] = linear[i] / table.scale[0]
        largest = max(largest, abs(b[i]))
        if 0.5 * gram[i, i] - b[i] < 0.5 * gram[start, start] - b[start]:
            start = i
        a[i] = 0.0
        barred[i] = 0.0
    a[start] = 1.0
    members[0] = start
    m = 1
    limit = 100 + 30 * p
    for step in range(limit):
        level = 0.0
        for i in range(p):
            slope[i] = -b[i]
            for j in range(p):
                slope[i] += gram[i, j] * a[j]
            level += slope[i] * a[i]
        entering = -1
        lowest = level - ROUNDING * largest
        for i in range(p):
            if a[i] == 0.0 and barred[i] == 0.0 and slope[i] < lowest:
                entering = i
                lowest = slope[i]
        if entering < 0:
            return step
        members[m] = entering
        m = _settle(gram, b, a, members, m + 1, system)
        if a[entering] > 0.0:
            barred[:p] = 0.0
        else:
            barred[entering] = 1.0  # rounding called it downhill: not again before the point has moved
    return limit


@njit(nogil=True, cache=True)
def _certify(gram: Floats, scale: float, b: Floats, a: Floats, n: int, kkt: Floats) -> None:
    """Abundances to exact signs and sum, then their Karush-Kuhn-Tucker violation; rows over the pixels of a slab."""
    p = a.shape[0]
    total = np.zeros(n)
    for i in range(p):
        for k in range(n):
            a[i, k] = 0.0 if a[i, k] < 0.0 else a[i, k]
            total[k] += a[i, k]
    for i in range(p):
        for k in range(n):
            a[i, k] /= total[k]
    highest = np.full(n, -np.inf)
    lowest = np.full(n, np.inf)
    slope = np.empty(n)
    for i in range(p):
        for k in range(n):
            slope[k] = -b[i, k]
        for j in range(p):
            for k in range(n):
                slope[k] += gram[i, j] * a[j, k]
        for k in range(n):
            held = slope[k] if a[i, k] > 0.0 else -np.inf
            highest[k] = held if held > highest[k] else highest[k]
            lowest[k] = slope[k] if slope[k] < lowest[k] else lowest[k]
    for k in range(n):
        kkt[k] = (highest[k] - lowest[k]) / scale


@njit(nogil=True, cache=True)
def _slab(valid, cap, scale, table, kkt, stats):
    n = valid.size
    p = table.gram.shape[0]
    products, abundance = table.slab[0], table.slab[1]
    maps = table.maps
    one = np.ones(n)
    pending = np.zeros(n, np.uint8)
    inside = np.ones(p, np.bool_)
    last = table.known.size - 1
    if cap > 0 and table.known[last] == UNKNOWN:
        _build(inside, last, table)
    if cap > 0 and table.known[last] == REGULAR:
        _full_map(products, n, one, maps, abundance)
        for i in range(p):
            for k in range(n):
                pending[k] |= abundance[i, k] < 0.0
        for k in range(n):
            pending[k] &= valid[k]
        _pivot(products, abundance, n, pending, cap, table, table.known, maps, table.vectors, inside, table.scale[0], stats)
    else:
        for k in range(n):
            pending[k] = 2 if valid[k] else 0
    for k in range(n):
        stats[PIXELS] += valid[k]
        if pending[k] == 2:
            stats[FALLBACKS] += 1
            _active_set(products[:, k], table, table.vectors[1,:p], table.vectors[2], table.vectors[3], table.vectors[4])
            for i in range(p):
                abundance[i, k] = table.vectors[1, i]
        if not valid[k]:
            for i in range(p):
                abundance[i, k] = np.nan
    _certify(table.gram, scale, products, abundance, n, kkt)

@njit(nogil=True, cache=True)
def solve_capped(
    gram: Floats,
    linear: Floats,
    valid: npt.NDArray[np.bool_],
    table: Table,
    abundance: Floats,
    kkt: Floats,
    stats: Ints,
    cap: int,
) -> None:
    """`solve` with at most `cap` supports tried before the fallback; 0 sends every pixel there."""
    p, n = linear.shape
    _bind(gram, table)
    scale = 0.0
    for i in range(p):
        scale = max(scale, gram[i, i])
    if scale == 0.0:
        scale = 1.0
    slab_b, slab_a = table.slab[0], table.slab[1]
    for start in range(0, n, SLAB):
        size = min(SLAB, n - start)
        for i in range(p):
            for k in range(size):
                slab_b[i, k] = linear[i, start + k]
        _slab(valid[start:start+size], cap, scale, table, kkt[start : start + size], stats)
        for i in range(p):
            for k in range(size):
                abundance[i, start + k] = slab_a[i, k]


@njit(nogil=True, cache=True)
def solve(
    gram: Floats,
    linear: Floats,
    valid: npt.NDArray[np.bool_],
    table: Table,
    abundance: Floats,
    kkt: Floats,
    stats: Ints,
) -> None:
    """..."""
    solve_capped(gram, linear, valid, table, abundance, kkt, stats, 64 + 4 * gram.shape[0])
