"""Fully constrained least squares: projection on a simplex by support maps (Heinz & Chang 2001; Judice & Pires 1994).

Per pixel: minimise 1/2 a'Ga - b'a subject to a >= 0 and sum(a) = 1, where G (p, p) is the Gram matrix of the endmembers
less a fixed spectrum and b (p,) the products of the pixel, less the same spectrum, with them. On each support one
affine map of b gives the abundances on it and the multipliers off it; where none is negative, that is the optimum.

An answer depends on (G, b) alone: every pixel starts from the full support, each sum has one order, BLAS has no part.
It is all in one module because numba's cache watches only the file of the function that was called.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hsichunk.array_types import Bools, Floats, Ints
from hsichunk.kernels.compiled import compiled

Bytes = npt.NDArray[np.uint8]

kernel = compiled(error_model="numpy")

PIXELS, PIVOTS, MOST_PIVOTS, FALLBACKS, RESETS = range(
    5
)  # what `stats` counts; every map has its place, so none is reset

MAX_MAPPED = 13  # endmembers up to which the maps of all supports fit 16 MiB; beyond, supports are factorised per pixel
SLAB = 256  # pixels that share one visit to the cache
GAP = 8  # keeps the rows of a slab from falling on the same cache lines
LANES = 4  # rows of a map that are summed side by side
PATIENCE = 3  # block exchanges without gain before single ones
ROUNDING = 8 * 2.0**-52  # a multiplier below this share of its terms is zero
SINGULAR = 1e-14  # a pivot below this share of the scale is none
STEEP = 1e4  # coefficients above this, over the scale, call for a step of refinement
DEPENDENCE = 1e-12  # share of the largest squared distance below which an endmember lies in the plane of others
NAMED_SHARE = 1e-3  # of a mixture from which a member is named
UNKNOWN, PLAIN, ROUGH, DEPENDENT = 0, 1, 2, 3  # map not built, built, built and to be refined, has none
SOLVED, PENDING, FAILED, NONE = 0, 1, 2, 3  # pixels


class Table(NamedTuple):
    """Support maps of one Gram matrix, built as they occur, and working space; private to a thread."""

    gram: Floats  # (p, p) the matrix that the maps are of, as given; NaN before the first use
    scaled: Floats  # (p, p) the same over `scale`
    scale: Floats  # (1,) the power of two just above the largest diagonal element
    known: Bytes  # (2^p,) state of each map, endmember i being bit i of the index; (1,) the full support beyond 13
    maps: Floats  # (2^p, rows / 4, p + 2, 4) coefficients of b, the constant, and the rounding of each row
    cap: Ints  # (1,) supports tried on a pixel before the fallback
    members: Ints  # (p + 1,)
    inside: Bools  # (p,)
    factor: Floats  # (p + 1, p + 2)
    right: Floats  # (p, p)
    vectors: Floats  # (6, p + 4)
    slab: Floats  # (4, p, SLAB + GAP) products, abundances, residuals, corrections
    rows: Floats  # (4, SLAB)
    state: Bytes  # (SLAB,)


def new_table(p: int, cap: int | None = None) -> Table:
    """An empty table for p endmembers, at most 16 MiB; it serves any Gram matrix, but keeps the maps of the last alone.

    A pixel takes the fallback after `cap` supports (100 + 8 p unless told); at cap = 0 every pixel does.
    """
    supports = 2**p if p <= MAX_MAPPED else 1
    return Table(
        gram=np.full((p, p), np.nan),
        scaled=np.empty((p, p)),
        scale=np.ones(1),
        known=np.zeros(supports, np.uint8),
        maps=np.empty((supports, -(-p // LANES), p + 2, LANES)),
        cap=np.array([100 + 8 * p if cap is None else cap], np.int64),
        members=np.zeros(p + 1, np.int64),
        inside=np.zeros(p, np.bool_),
        factor=np.empty((p + 1, p + 2)),
        right=np.empty((p, p)),
        vectors=np.zeros((6, p + LANES)),
        slab=np.zeros((4, p, SLAB + GAP)),
        rows=np.zeros((4, SLAB)),
        state=np.zeros(SLAB, np.uint8),
    )


@kernel
def _bind(gram: Floats, table: Table) -> None:
    """Forget the maps if they are of another Gram matrix."""
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


@kernel
def _factorise(gram: Floats, inside: Bools, members: Ints, factor: Floats) -> int:
    """Number of members of a support, the members, and the Cholesky factor (diagonal inverted) of H; 0 if it has none.

    H is the Gram matrix of the members' differences from the first one, which takes the place of the sum to one.
    """
    m = 0
    for i in range(inside.size):
        if inside[i]:
            members[m] = i
            m += 1
    r = members[0]
    for j in range(m - 1):
        v = members[j + 1]
        for i in range(j, m - 1):
            u = members[i + 1]
            value = (gram[u, v] - gram[u, r]) - (gram[r, v] - gram[r, r])
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = value * factor[j, j]
            elif value > SINGULAR:
                factor[j, j] = 1.0 / np.sqrt(value)
            else:
                return 0
    return m


@kernel
def _build(inside: Bools, at: int, table: Table) -> None:
    """Write the map of a support: row t gives a_t if t is on it, else its multiplier over the scale.

    With r the first member and c = b - G[:, r]: on the support H a = c - c_r, off it w_j = h_j'a - (c_j - c_r). Each
    row, not column, is a solution with H of its own: that keeps the error of the abundances proportional to the
    condition of H, not to its square.
    """
    gram, factor, right, members = table.scaled, table.factor, table.right, table.members
    p = inside.size
    m = _factorise(gram, inside, members, factor)
    if m == 0:
        table.known[at] = DEPENDENT
        return
    r = members[0]
    for k in range(m - 1):
        u = members[k + 1]
        for t in range(p):
            if inside[t]:
                right[k, t] = -1.0 if t == r else 0.0
            else:
                right[k, t] = (gram[u, t] - gram[u, r]) - (gram[r, t] - gram[r, r])
        right[k, u] = 1.0
    for k in range(m - 1):
        for i in range(k):
            for t in range(p):
                right[k, t] -= factor[k, i] * right[i, t]
        for t in range(p):
            right[k, t] *= factor[k, k]
    for k in range(m - 2, -1, -1):
        for i in range(k + 1, m - 1):
            for t in range(p):
                right[k, t] -= factor[i, k] * right[i, t]
        for t in range(p):
            right[k, t] *= factor[k, k]
    _store(inside, m, at, table)


@kernel
def _store(inside: Bools, m: int, at: int, table: Table) -> None:
    """From solved rows to coefficients of b as given (not scaled), the constant and the rounding of each row."""
    gram, right, members, scale = table.scaled, table.right, table.members, table.scale[0]
    maps = table.maps[at]
    p = inside.size
    r = members[0]
    table.known[at] = PLAIN
    maps[:] = 0.0
    for t in range(p):
        block, lane = t // LANES, t % LANES
        total, size, constant = 0.0, 0.0, 0.0
        for k in range(m - 1):
            u = members[k + 1]
            value = right[k, t]
            total += value
            size += abs(value)
            constant -= value * (gram[u, r] - gram[r, r])
            maps[block, u, lane] = value / scale
        if size > STEEP:
            table.known[at] = ROUGH
        if inside[t]:
            maps[block, r, lane] = -total / scale
            maps[block, p, lane] = constant + (1.0 if t == r else 0.0)
        else:
            maps[block, r, lane] = (1.0 - total) / scale
            maps[block, t, lane] = -1.0 / scale
            maps[block, p, lane] = constant + (gram[t, r] - gram[r, r])
            maps[block, p + 1, lane] = -ROUNDING * (2.0 + size + abs(1.0 - total)) / scale


@kernel
def _place(inside: Bools) -> int:
    """Where the table keeps the map of a support."""
    at = 0
    for i in range(inside.size):
        at += (1 << i) if inside[i] else 0
    return at


@kernel
def _apply(maps: Floats, at: int, b: Floats, one: float, z: Floats) -> None:
    """z (p,) = one map of (b, one)."""
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


@kernel
def _refine(
    gram: Floats, maps: Floats, at: int, inside: Bools, b: Floats, z: Floats, rest: Floats, step: Floats
) -> None:
    """One step of iterative refinement: the map of what is left of b adds to the abundances and is the multipliers."""
    p = b.size
    first = -1
    missing = 1.0
    for j in range(p):
        rest[j] = b[j]
    for i in range(p):
        if inside[i]:
            first = i if first < 0 else first
            missing -= z[i]
            for j in range(p):
                rest[j] -= gram[i, j] * z[i]
    level = rest[first]
    for j in range(p):
        rest[j] -= level
    _apply(maps, at, rest, missing, step)
    for i in range(p):
        z[i] = z[i] + step[i] if inside[i] else step[i]


@kernel
def _slope(gram: Floats, scale: float, b: Floats, members: Ints, m: int, first: float, x: Floats, t: int) -> float:
    """Element t of the gradient over the scale, the members' abundances being `first` and x."""
    slope: float = gram[t, members[0]] * first - b[t] / scale
    for k in range(m - 1):
        slope += gram[t, members[k + 1]] * x[k]
    return slope


@kernel
def _direct(
    gram: Floats, scale: float, inside: Bools, b: Floats, members: Ints, factor: Floats, z: Floats, x: Floats
) -> float:
    """The same z without a map, where there are too many supports to keep; gives its rounding, 1 if there is none."""
    p = b.size
    m = _factorise(gram, inside, members, factor)
    if m == 0:
        return 1.0
    r = members[0]
    for k in range(m - 1):
        u = members[k + 1]
        x[k] = (b[u] - b[r]) / scale - (gram[u, r] - gram[r, r])
    for k in range(m - 1):
        x[k] *= factor[k, k]
        for i in range(k + 1, m - 1):
            x[i] -= factor[i, k] * x[k]
    for k in range(m - 2, -1, -1):
        x[k] *= factor[k, k]
        for i in range(k):
            x[i] -= factor[k, i] * x[k]
    first = 1.0
    size = 2.0
    for k in range(m - 1):
        first -= x[k]
        size += 2.0 * abs(x[k])
    level = _slope(gram, scale, b, members, m, first, x, r)
    for t in range(p):
        if not inside[t]:
            z[t] = _slope(gram, scale, b, members, m, first, x, t) - level
    z[r] = first
    for k in range(m - 1):
        z[members[k + 1]] = x[k]
    return -ROUNDING * size / scale


@kernel
def _pivot(n: int, table: Table, stats: Ints) -> None:
    """Finish the pending ones of the n pixels of a slab, which hold the abundances on the full support.

    Block principal pivoting: all infeasible members change sides; when that stops to help, the lowest alone (finite).
    """
    products, abundance, state, cap = table.slab[0], table.slab[1], table.state, table.cap[0]
    known, maps = table.known, table.maps
    gram, scaled, inside, members, factor = table.gram, table.scaled, table.inside, table.members, table.factor
    b, z, floor = table.vectors[0, : inside.size], table.vectors[1], table.vectors[2]
    x, rest, step = table.vectors[3], table.vectors[4], table.vectors[5]
    p, scale = inside.size, table.scale[0]
    for k in range(n):
        if state[k] != PENDING:
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
        state[k] = FAILED
        while True:
            count = 0
            for i in range(p):
                count += z[i] < floor[i] * largest
            if count == 0:
                state[k] = SOLVED
                break
            if pivots + 1 >= cap:
                break
            if count < fewest:
                fewest = count
                patience = PATIENCE
            else:
                patience -= 1
            for i in range(p):
                if z[i] < floor[i] * largest:
                    inside[i] = not inside[i]
                    if patience < 0:
                        break
            pivots += 1
            if p <= MAX_MAPPED:
                at = _place(inside)
                if known[at] == UNKNOWN:
                    _build(inside, at, table)
                if known[at] == DEPENDENT:
                    break
                _apply(maps, at, b, 1.0, z)
                if known[at] == ROUGH:
                    _refine(gram, maps, at, inside, b, z, rest, step)
                for i in range(p):
                    floor[i] = maps[at, i >> 2, p + 1, i & 3]
            else:
                rounding = _direct(scaled, scale, inside, b, members, factor, z, x)
                if rounding > 0.0:
                    break
                for i in range(p):
                    floor[i] = 0.0 if inside[i] else rounding
        stats[PIVOTS] += pivots
        stats[MOST_PIVOTS] = max(stats[MOST_PIVOTS], pivots)
        for i in range(p):
            abundance[i, k] = z[i] if inside[i] else 0.0


@kernel
def _face(gram: Floats, b: Floats, members: Ints, m: int, system: Floats) -> bool:
    """Optimum on the plane of m members, left in column m + 1: elimination, rows exchanged, on the bordered system."""
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


@kernel
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


@kernel
def _active_set(k: int, table: Table) -> int:
    """Pixel k of a slab by a primal active set from the best vertex (Lawson & Hanson), without maps; steps taken."""
    products, abundance = table.slab[0], table.slab[1]
    gram, members, system = table.scaled, table.members, table.factor
    b, a, slope, barred = table.vectors[0], table.vectors[1], table.vectors[2], table.vectors[3]
    p = gram.shape[0]
    start = 0
    largest = 1.0
    for i in range(p):
        b[i] = products[i, k] / table.scale[0]
        largest = max(largest, abs(b[i]))
        if 0.5 * gram[i, i] - b[i] < 0.5 * gram[start, start] - b[start]:
            start = i
    a[:] = 0.0
    barred[:] = 0.0
    a[start] = 1.0
    members[0] = start
    m = 1
    steps = 0
    while steps < 100 + 30 * p:
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
            break
        members[m] = entering
        m = _settle(gram, b, a, members, m + 1, system)
        steps += 1
        if a[entering] > 0.0:
            barred[:] = 0.0
        else:
            barred[entering] = 1.0  # rounding called it downhill: not again before the point has moved
    for i in range(p):
        abundance[i, k] = a[i]
    return steps


@kernel
def _full_map(maps: Floats, b: Floats, one: Floats, n: int, z: Floats) -> None:
    """The map of the full support (the last) for the n pixels of a slab, row by row."""
    last = maps.shape[0] - 1
    p = b.shape[0]
    for i in range(p):
        block, lane = i // LANES, i % LANES
        for k in range(n):
            z[i, k] = maps[last, block, p, lane] * one[k]
        for j in range(p):
            for k in range(n):
                z[i, k] += maps[last, block, j, lane] * b[j, k]


@kernel
def _residual(gram: Floats, b: Floats, a: Floats, n: int, rest: Floats) -> None:
    """rest = b - G a for the n pixels of a slab, row by row."""
    p = b.shape[0]
    for i in range(p):
        for k in range(n):
            rest[i, k] = b[i, k]
        for j in range(p):
            for k in range(n):
                rest[i, k] -= gram[i, j] * a[j, k]


@kernel
def _start(n: int, table: Table) -> None:
    """Abundances on the full support for the n pixels of a slab; pixels with a negative one become PENDING."""
    b, a, rest, step = table.slab[0], table.slab[1], table.slab[2], table.slab[3]
    one, maps, state = table.rows[0], table.maps, table.state
    p = b.shape[0]
    one[:] = 1.0
    _full_map(maps, b, one, n, a)
    if table.known[table.known.size - 1] == ROUGH:
        _residual(table.gram, b, a, n, rest)
        for i in range(p - 1, -1, -1):  # the level, row 0, comes last
            for k in range(n):
                one[k] -= a[i, k]
                rest[i, k] -= rest[0, k]
        _full_map(maps, rest, one, n, step)
        for i in range(p):
            for k in range(n):
                a[i, k] += step[i, k]
    for i in range(p):
        for k in range(n):
            state[k] = PENDING if a[i, k] < 0.0 else state[k]


@kernel
def _certify(n: int, size: float, table: Table, kkt: Floats) -> None:
    """Abundances to exact signs and sum, then their Karush-Kuhn-Tucker violation, for the n pixels of a slab."""
    b, a, rest = table.slab[0], table.slab[1], table.slab[2]
    total, least, most = table.rows[0], table.rows[1], table.rows[2]
    p = b.shape[0]
    total[:] = 0.0
    least[:] = np.inf
    most[:] = -np.inf
    for i in range(p):
        for k in range(n):
            a[i, k] = 0.0 if a[i, k] < 0.0 else a[i, k]
            total[k] += a[i, k]
    for i in range(p):
        for k in range(n):
            a[i, k] /= total[k]
    _residual(table.gram, b, a, n, rest)
    for i in range(p):
        for k in range(n):
            held = rest[i, k] if a[i, k] > 0.0 else np.inf
            least[k] = held if held < least[k] else least[k]
            most[k] = rest[i, k] if rest[i, k] > most[k] else most[k]
    for k in range(n):
        kkt[k] = np.nan if np.isnan(total[k]) else (most[k] - least[k]) / size


@kernel
def solve(
    gram: Floats, linear: Floats, valid: Bools, table: Table, abundance: Floats, kkt: Floats, stats: Ints
) -> None:
    """Abundances of n pixels (exact projections on the simplex) and their certificates.

    gram (p, p) and linear (p, n) float64: G and one b per pixel, as in the module's head; rows may be views. valid (n,)
    bool or uint8: other pixels get NaN, and so do those whose b is not finite. table: from `new_table(p)`, one a
    thread. Out: abundance (p, n) float64, >= 0, exact zeros off the support, sum 1; kkt (n,) float64, the largest
    gradient Ga - b where a > 0 less the smallest anywhere, over the largest element of G's diagonal: 0 at the optimum.
    stats (5,) int64 adds up pixels solved, pivots, the most pivots in a pixel, pixels that took the fallback, and table
    resets, which never happen.
    """
    p, n = linear.shape
    cap = table.cap[0]
    _bind(gram, table)
    b, a, state, last = table.slab[0], table.slab[1], table.state, table.known.size - 1
    spoilt = table.rows[3]
    size = 0.0
    for i in range(p):
        size = max(size, gram[i, i])
    size = size if size > 0.0 else 1.0
    if cap > 0 and table.known[last] == UNKNOWN:
        table.inside[:] = True
        _build(table.inside, last, table)
    mapped = cap > 0 and table.known[last] != DEPENDENT
    for first in range(0, n, SLAB):
        width = min(SLAB, n - first)
        spoilt[:] = 0.0
        for i in range(p):
            for k in range(width):
                b[i, k] = linear[i, first + k]
                spoilt[k] += 0.0 * b[i, k]  # NaN from anything that is not finite
        state[:] = SOLVED if mapped else FAILED
        if mapped:
            _start(width, table)
        for k in range(width):
            if valid[first + k] and spoilt[k] == 0.0:
                stats[PIXELS] += 1
            else:
                state[k] = NONE
        if mapped:
            _pivot(width, table, stats)
        for k in range(width):
            if state[k] == FAILED:
                steps = _active_set(k, table)
                stats[FALLBACKS] += 1
                stats[PIVOTS] += steps
                stats[MOST_PIVOTS] = max(stats[MOST_PIVOTS], steps)
            elif state[k] == NONE:
                a[0, k] = np.nan  # and by the sum all others
        _certify(width, size, table, kkt[first : first + width])
        for i in range(p):
            for k in range(width):
                abundance[i, first + k] = a[i, k]


def dependent(gram: Floats) -> list[list[int]] | None:
    """Indexes of endmembers that are equal or affine mixtures of each other, one list a relation, or None.

    gram (p, p): products of the endmembers, less any fixed spectrum. Two are equal, or one lies in the plane of others,
    where the squared distance is below 1e-12 of the largest: float64 products of nearer ones hold no answer.
    """
    square = np.diag(gram)
    distance = square[:, None] + square[None, :] - gram - gram.T
    near = distance <= DEPENDENCE * max(float(distance.max()), float(np.abs(square).max()))
    first = near.argmax(1)  # the lowest index that each one equals
    kept = np.unique(first)
    groups = [np.flatnonzero(first == i).tolist() for i in kept if (first == i).sum() > 1]
    r, others = kept[0], kept[1:]
    differences = gram[np.ix_(others, others)] - gram[others, r][:, None] - gram[r, others][None, :] + gram[r, r]
    basis, rest = _pivoted(differences)
    for j in rest:
        shares = np.linalg.solve(differences[np.ix_(basis, basis)], differences[basis, j])
        named = [int(others[i]) for i, share in zip(basis, shares, strict=True) if abs(share) > NAMED_SHARE]
        if abs(1.0 - shares.sum()) > NAMED_SHARE:
            named.append(int(r))
        groups.append(sorted([*named, int(others[j])]))
    return groups or None


def _pivoted(matrix: Floats) -> tuple[list[int], list[int]]:
    """Rows that pivoted Cholesky finds independent, in its order, and the rest."""
    left = matrix.copy()
    basis: list[int] = []
    rest = list(range(len(matrix)))
    least = DEPENDENCE * float(np.diag(matrix).max(initial=0.0))
    while rest:
        best = max(rest, key=lambda i: left[i, i])
        if not left[best, best] > least:
            break
        left -= np.outer(left[:, best], left[best]) / left[best, best]
        basis.append(best)
        rest.remove(best)
    return basis, rest
