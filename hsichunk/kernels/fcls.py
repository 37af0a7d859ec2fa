"""Fully constrained least squares: projection on a simplex by support maps (Heinz & Chang 2001; Judice & Pires 1994).

For each pixel and k endmembers: minimise 1/2 a'Ga - b'a subject to a >= 0 and sum(a) = 1. G (k, k) is the Gram matrix
of the endmembers less a fixed spectrum; b (k,) are the products of the pixel, less the same spectrum, with them. A
support is a set of endmembers, outside of which abundances are zero. On each support one affine map of b gives the
abundances on it and the multipliers off it; where none is negative, that is the optimum.

The abundances depend on (G, b) alone: every pixel starts from the full support, each sum has one order, and BLAS takes
no part.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hsichunk.array_types import Bools, Bytes, Floats, Ints
from hsichunk.kernels.compiled import compiled

kernel = compiled(error_model="numpy")

# what `stats` counts; every map has its place in the table, so that there is never a reset
PIXELS, PIVOTS, MOST_PIVOTS, FALLBACKS, RESETS = range(5)

MAX_MAPPED = 13  # endmembers up to which the maps of all supports fit 16 MiB; beyond, supports are factorised per pixel
SLAB = 256  # pixels that share one visit to the cache
GAP = 8  # elements between the rows of a slab, so that they do not compete for the same cache lines
LANES = 4  # rows of a map that are summed side by side
PATIENCE = 3  # block exchanges that leave no fewer infeasible members, before single exchanges
ROUNDING = 8 * 2.0**-52  # a multiplier below this share of its terms is zero
SINGULAR = 1e-14  # a pivot that is not above this share of the scale counts as zero
STEEP = 1e4  # a map with a row whose coefficients, times the scale, sum to more than this is refined
DEPENDENCE = 1e-12  # share of the largest squared distance below which an endmember lies in the plane of others
NAMED_SHARE = 1e-3  # share of a mixture above which `dependent` names a member
UNKNOWN, PLAIN, ROUGH, DEPENDENT = 0, 1, 2, 3  # maps: not built, built, built and to be refined, impossible
SOLVED, PENDING, FAILED, NONE = 0, 1, 2, 3  # pixels: done, to be pivoted, for the fallback, without an answer


class Table(NamedTuple):
    """Support maps of one Gram matrix, built when a pixel needs them, and working space; each thread has its own."""

    gram: Floats  # (k, k) the matrix that the maps are of, not scaled; NaN before the first use
    scaled: Floats  # (k, k) the same over `scale`
    scale: Floats  # (1,) the power of two just above the largest diagonal element
    known: Bytes  # (2^k,) state of each map, endmember i being bit i of the index; (1,) the full support beyond 13
    maps: Floats  # (2^k, rows / 4, k + 2, 4) coefficients of b, the constant, and the rounding of each row
    cap: Ints  # (1,) supports tried on a pixel before the fallback
    members: Ints  # (k + 1,) endmembers on a support
    inside: Bools  # (k,) whether an endmember is on a support
    factor: Floats  # (k + 1, k + 2) Cholesky factor, or the bordered system of the fallback
    right: Floats  # (k, k) right-hand sides of a map
    vectors: Floats  # (6, k + 4)
    slab: Floats  # (4, k, SLAB + GAP) products, abundances, residuals, corrections
    rows: Floats  # (4, SLAB)
    state: Bytes  # (SLAB,)


def new_table(k: int, cap: int | None = None) -> Table:
    """Return an empty table for k endmembers, of at most 16 MiB.

    It serves any Gram matrix, but keeps only the maps of the last one. A pixel takes the fallback after `cap` supports
    (100 + 8 k by default); at cap = 0 every pixel does.
    """
    supports = 2**k if k <= MAX_MAPPED else 1
    return Table(
        gram=np.full((k, k), np.nan),
        scaled=np.empty((k, k)),
        scale=np.ones(1),
        known=np.zeros(supports, np.uint8),
        maps=np.empty((supports, -(-k // LANES), k + 2, LANES)),
        cap=np.array([100 + 8 * k if cap is None else cap], np.int64),
        members=np.zeros(k + 1, np.int64),
        inside=np.zeros(k, np.bool_),
        factor=np.empty((k + 1, k + 2)),
        right=np.empty((k, k)),
        vectors=np.zeros((6, k + LANES)),
        slab=np.zeros((4, k, SLAB + GAP)),
        rows=np.zeros((4, SLAB)),
        state=np.zeros(SLAB, np.uint8),
    )


@kernel
def _bind(gram: Floats, table: Table) -> None:
    """Clear the maps of the table if they are of another Gram matrix."""
    k = gram.shape[0]
    same = True
    largest = 0.0
    for i in range(k):
        largest = max(largest, gram[i, i])
        for j in range(k):
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
    for i in range(k):
        for j in range(k):
            table.gram[i, j] = gram[i, j]
            table.scaled[i, j] = gram[i, j] / scale


@kernel
def _factorise(gram: Floats, inside: Bools, members: Ints, factor: Floats) -> int:
    """Write the members of a support and the Cholesky factor of H (diagonal inverted); return the number of members.

    H is the Gram matrix of the members' differences from the first one, which takes the place of the sum to one.
    Returns 0 where it has no factor.
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
            for c in range(j):
                value -= factor[i, c] * factor[j, c]
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
    k = inside.size
    m = _factorise(gram, inside, members, factor)
    if m == 0:
        table.known[at] = DEPENDENT
        return
    r = members[0]
    for row in range(m - 1):
        u = members[row + 1]
        for t in range(k):
            if inside[t]:
                right[row, t] = -1.0 if t == r else 0.0
            else:
                right[row, t] = (gram[u, t] - gram[u, r]) - (gram[r, t] - gram[r, r])
        right[row, u] = 1.0
    for row in range(m - 1):
        for i in range(row):
            for t in range(k):
                right[row, t] -= factor[row, i] * right[i, t]
        for t in range(k):
            right[row, t] *= factor[row, row]
    for row in range(m - 2, -1, -1):
        for i in range(row + 1, m - 1):
            for t in range(k):
                right[row, t] -= factor[i, row] * right[i, t]
        for t in range(k):
            right[row, t] *= factor[row, row]
    _store(inside, m, at, table)


@kernel
def _store(inside: Bools, m: int, at: int, table: Table) -> None:
    """Write the coefficients of b (not scaled), the constant and the rounding of each row from the solved rows."""
    gram, right, members, scale = table.scaled, table.right, table.members, table.scale[0]
    maps = table.maps[at]
    k = inside.size
    r = members[0]
    table.known[at] = PLAIN
    maps[:] = 0.0
    for t in range(k):
        block, lane = t // LANES, t % LANES
        total, size, constant = 0.0, 0.0, 0.0
        for row in range(m - 1):
            u = members[row + 1]
            value = right[row, t]
            total += value
            size += abs(value)
            constant -= value * (gram[u, r] - gram[r, r])
            maps[block, u, lane] = value / scale
        if size > STEEP:
            table.known[at] = ROUGH
        if inside[t]:
            maps[block, r, lane] = -total / scale
            maps[block, k, lane] = constant + (1.0 if t == r else 0.0)
        else:
            maps[block, r, lane] = (1.0 - total) / scale
            maps[block, t, lane] = -1.0 / scale
            maps[block, k, lane] = constant + (gram[t, r] - gram[r, r])
            maps[block, k + 1, lane] = -ROUNDING * (2.0 + size + abs(1.0 - total)) / scale


@kernel
def _map_index(inside: Bools) -> int:
    """Return the index of a support's map in the table."""
    at = 0
    for i in range(inside.size):
        at += (1 << i) if inside[i] else 0
    return at


@kernel
def _apply(maps: Floats, at: int, b: Floats, one: float, z: Floats) -> None:
    """z (k,) = one map of (b, one)."""
    k = maps.shape[2] - 2
    for block in range(maps.shape[1]):
        z0 = maps[at, block, k, 0] * one
        z1 = maps[at, block, k, 1] * one
        z2 = maps[at, block, k, 2] * one
        z3 = maps[at, block, k, 3] * one
        for j in range(k):
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
    """Refine z by one step: the map of the residual of b is added to the abundances, and replaces the multipliers."""
    k = b.size
    first = -1
    missing = 1.0
    for j in range(k):
        rest[j] = b[j]
    for i in range(k):
        if inside[i]:
            first = i if first < 0 else first
            missing -= z[i]
            for j in range(k):
                rest[j] -= gram[i, j] * z[i]
    level = rest[first]
    for j in range(k):
        rest[j] -= level
    _apply(maps, at, rest, missing, step)
    for i in range(k):
        z[i] = z[i] + step[i] if inside[i] else step[i]


@kernel
def _slope(gram: Floats, scale: float, b: Floats, members: Ints, m: int, first: float, x: Floats, t: int) -> float:
    """Return element t of the gradient over the scale, where the members' abundances are `first` and x."""
    slope: float = gram[t, members[0]] * first - b[t] / scale
    for i in range(m - 1):
        slope += gram[t, members[i + 1]] * x[i]
    return slope


@kernel
def _direct(
    gram: Floats, scale: float, inside: Bools, b: Floats, members: Ints, factor: Floats, z: Floats, x: Floats
) -> float:
    """Compute z without a map, for more endmembers than maps are kept for.

    Returns the rounding of z, which is below 0, or 1 where the support has no solution.
    """
    k = b.size
    m = _factorise(gram, inside, members, factor)
    if m == 0:
        return 1.0
    r = members[0]
    for j in range(m - 1):
        u = members[j + 1]
        x[j] = (b[u] - b[r]) / scale - (gram[u, r] - gram[r, r])
    for j in range(m - 1):
        x[j] *= factor[j, j]
        for i in range(j + 1, m - 1):
            x[i] -= factor[i, j] * x[j]
    for j in range(m - 2, -1, -1):
        x[j] *= factor[j, j]
        for i in range(j):
            x[i] -= factor[j, i] * x[j]
    first = 1.0
    size = 2.0
    for j in range(m - 1):
        first -= x[j]
        size += 2.0 * abs(x[j])
    level = _slope(gram, scale, b, members, m, first, x, r)
    for t in range(k):
        if not inside[t]:
            z[t] = _slope(gram, scale, b, members, m, first, x, t) - level
    z[r] = first
    for j in range(m - 1):
        z[members[j + 1]] = x[j]
    return -ROUNDING * size / scale


@kernel
def _pivot(n: int, table: Table, stats: Ints) -> None:
    """Solve the pending pixels among the n of a slab, which hold the abundances on the full support.

    Block principal pivoting: all infeasible endmembers change sides; once that no longer makes them fewer, the lowest
    changes alone, which ends after finitely many steps.
    """
    products, abundance, state, cap = table.slab[0], table.slab[1], table.state, table.cap[0]
    known, maps = table.known, table.maps
    gram, scaled, inside, members, factor = table.gram, table.scaled, table.inside, table.members, table.factor
    b, z, floor = table.vectors[0, : inside.size], table.vectors[1], table.vectors[2]
    x, rest, step = table.vectors[3], table.vectors[4], table.vectors[5]
    k, scale = inside.size, table.scale[0]
    for pixel in range(n):
        if state[pixel] != PENDING:
            continue
        largest = scale
        for i in range(k):
            b[i] = products[i, pixel]
            z[i] = abundance[i, pixel]
            floor[i] = 0.0
            inside[i] = True
            largest = max(largest, abs(b[i]))
        fewest = k + 1
        patience = PATIENCE
        pivots = 0
        state[pixel] = FAILED
        while True:
            count = 0
            for i in range(k):
                count += z[i] < floor[i] * largest
            if count == 0:
                state[pixel] = SOLVED
                break
            if pivots + 1 >= cap:
                break
            if count < fewest:
                fewest = count
                patience = PATIENCE
            else:
                patience -= 1
            for i in range(k):
                if z[i] < floor[i] * largest:
                    inside[i] = not inside[i]
                    if patience < 0:
                        break
            pivots += 1
            if k <= MAX_MAPPED:
                at = _map_index(inside)
                if known[at] == UNKNOWN:
                    _build(inside, at, table)
                if known[at] == DEPENDENT:
                    break
                _apply(maps, at, b, 1.0, z)
                if known[at] == ROUGH:
                    _refine(gram, maps, at, inside, b, z, rest, step)
                for i in range(k):
                    floor[i] = maps[at, i >> 2, k + 1, i & 3]
            else:
                rounding = _direct(scaled, scale, inside, b, members, factor, z, x)
                if rounding > 0.0:
                    break
                for i in range(k):
                    floor[i] = 0.0 if inside[i] else rounding
        stats[PIVOTS] += pivots
        stats[MOST_PIVOTS] = max(stats[MOST_PIVOTS], pivots)
        for i in range(k):
            abundance[i, pixel] = z[i] if inside[i] else 0.0


@kernel
def _face(gram: Floats, b: Floats, members: Ints, m: int, system: Floats) -> bool:
    """Write the optimum on the plane of m members to column m + 1 of `system`; return False if it has none.

    Gaussian elimination with row exchanges on the bordered system.
    """
    for i in range(m):
        for j in range(m):
            system[i, j] = gram[members[i], members[j]]
        system[i, m] = 1.0
        system[m, i] = 1.0
        system[i, m + 1] = b[members[i]]
    system[m, m] = 0.0
    system[m, m + 1] = 1.0
    for c in range(m + 1):
        best = c
        for i in range(c + 1, m + 1):
            if abs(system[i, c]) > abs(system[best, c]):
                best = i
        if not abs(system[best, c]) > SINGULAR:
            return False
        for j in range(c, m + 2):
            system[c, j], system[best, j] = system[best, j], system[c, j]
        for i in range(c + 1, m + 1):
            share = system[i, c] / system[c, c]
            for j in range(c + 1, m + 2):
                system[i, j] -= share * system[c, j]
    for c in range(m, -1, -1):
        for j in range(c + 1, m + 1):
            system[c, m + 1] -= system[c, j] * system[j, m + 1]
        system[c, m + 1] /= system[c, c]
    return True


@kernel
def _settle(gram: Floats, b: Floats, a: Floats, members: Ints, m: int, system: Floats) -> int:
    """Move a to the optimum over its m members, dropping those that reach zero on the way; return how many stay."""
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
        stay = 0
        for i in range(m):
            member = members[i]
            target = system[i, m + 1]
            stays = target > 0.0 or (a[member] > 0.0 and a[member] / (a[member] - target) > share)
            a[member] = a[member] + share * (target - a[member]) if blocked else target
            if stays:
                members[stay] = member
                stay += 1
            else:
                a[member] = 0.0
        m = stay
        if not blocked:
            return m


@kernel
def _active_set(pixel: int, table: Table) -> int:
    """Solve a pixel of a slab by a primal active set from the best vertex (Lawson & Hanson); return the steps taken.

    This fallback needs no maps.
    """
    products, abundance = table.slab[0], table.slab[1]
    gram, members, system = table.scaled, table.members, table.factor
    b, a, slope, barred = table.vectors[0], table.vectors[1], table.vectors[2], table.vectors[3]
    k = gram.shape[0]
    start = 0
    largest = 1.0
    for i in range(k):
        b[i] = products[i, pixel] / table.scale[0]
        largest = max(largest, abs(b[i]))
        if 0.5 * gram[i, i] - b[i] < 0.5 * gram[start, start] - b[start]:
            start = i
    a[:] = 0.0
    barred[:] = 0.0
    a[start] = 1.0
    members[0] = start
    m = 1
    steps = 0
    while steps < 100 + 30 * k:
        level = 0.0
        for i in range(k):
            slope[i] = -b[i]
            for j in range(k):
                slope[i] += gram[i, j] * a[j]
            level += slope[i] * a[i]
        entering = -1
        lowest = level - ROUNDING * largest
        for i in range(k):
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
            barred[entering] = 1.0  # it came in by rounding: it stays out until the point has moved
    for i in range(k):
        abundance[i, pixel] = a[i]
    return steps


@kernel
def _full_map(maps: Floats, b: Floats, one: Floats, n: int, z: Floats) -> None:
    """z = the map of the full support (the last one) of (b, one) for the n pixels of a slab, row by row."""
    last = maps.shape[0] - 1
    k = b.shape[0]
    for i in range(k):
        block, lane = i // LANES, i % LANES
        for pixel in range(n):
            z[i, pixel] = maps[last, block, k, lane] * one[pixel]
        for j in range(k):
            for pixel in range(n):
                z[i, pixel] += maps[last, block, j, lane] * b[j, pixel]


@kernel
def _residual(gram: Floats, b: Floats, a: Floats, n: int, rest: Floats) -> None:
    """rest = b - G a for the n pixels of a slab, row by row."""
    k = b.shape[0]
    for i in range(k):
        for pixel in range(n):
            rest[i, pixel] = b[i, pixel]
        for j in range(k):
            for pixel in range(n):
                rest[i, pixel] -= gram[i, j] * a[j, pixel]


@kernel
def _start(n: int, table: Table) -> None:
    """Compute abundances on the full support for the n pixels of a slab; those with a negative one become PENDING."""
    b, a, rest, step = table.slab[0], table.slab[1], table.slab[2], table.slab[3]
    one, maps, state = table.rows[0], table.maps, table.state
    k = b.shape[0]
    one[:] = 1.0
    _full_map(maps, b, one, n, a)
    if table.known[table.known.size - 1] == ROUGH:
        _residual(table.gram, b, a, n, rest)
        for i in range(k - 1, -1, -1):  # row 0 comes last: it is subtracted from all others
            for pixel in range(n):
                one[pixel] -= a[i, pixel]
                rest[i, pixel] -= rest[0, pixel]
        _full_map(maps, rest, one, n, step)
        for i in range(k):
            for pixel in range(n):
                a[i, pixel] += step[i, pixel]
    for i in range(k):
        for pixel in range(n):
            state[pixel] = PENDING if a[i, pixel] < 0.0 else state[pixel]


@kernel
def _certify(n: int, size: float, table: Table, kkt: Floats) -> None:
    """Clip and normalise the abundances of the n pixels of a slab, and write their Karush-Kuhn-Tucker violation."""
    b, a, rest = table.slab[0], table.slab[1], table.slab[2]
    total, least, most = table.rows[0], table.rows[1], table.rows[2]
    k = b.shape[0]
    total[:] = 0.0
    least[:] = np.inf
    most[:] = -np.inf
    for i in range(k):
        for pixel in range(n):
            a[i, pixel] = 0.0 if a[i, pixel] < 0.0 else a[i, pixel]
            total[pixel] += a[i, pixel]
    for i in range(k):
        for pixel in range(n):
            a[i, pixel] /= total[pixel]
    _residual(table.gram, b, a, n, rest)
    for i in range(k):
        for pixel in range(n):
            on_support = rest[i, pixel] if a[i, pixel] > 0.0 else np.inf
            least[pixel] = on_support if on_support < least[pixel] else least[pixel]
            most[pixel] = rest[i, pixel] if rest[i, pixel] > most[pixel] else most[pixel]
    for pixel in range(n):
        kkt[pixel] = np.nan if np.isnan(total[pixel]) else (most[pixel] - least[pixel]) / size


@kernel
def solve(
    gram: Floats, linear: Floats, valid: Bools, table: Table, abundance: Floats, kkt: Floats, stats: Ints
) -> None:
    """Write the abundances of n pixels (exact projections on the simplex) and their certificates.

    gram (k, k) and linear (k, n) float64: G and one b per pixel, as in the module's docstring; rows may be views.
    valid (n,) bool or uint8: other pixels get NaN, and so do those whose b is not finite. table: from `new_table(k)`,
    one a thread.

    Written: abundance (k, n) float64, >= 0, exact zeros off the support, sum 1; kkt (n,) float64, the largest gradient
    Ga - b where a > 0 less the smallest anywhere, over the largest element of G's diagonal: 0 at the optimum. stats
    (5,) int64: added to are the pixels solved, pivots, the most pivots in a pixel, pixels that took the fallback, and
    table resets, which never happen.
    """
    k, n = linear.shape
    cap = table.cap[0]
    _bind(gram, table)
    b, a, state, last = table.slab[0], table.slab[1], table.state, table.known.size - 1
    not_finite = table.rows[3]
    size = 0.0
    for i in range(k):
        size = max(size, gram[i, i])
    size = size if size > 0.0 else 1.0
    if cap > 0 and table.known[last] == UNKNOWN:
        table.inside[:] = True
        _build(table.inside, last, table)
    mapped = cap > 0 and table.known[last] != DEPENDENT
    for first in range(0, n, SLAB):
        width = min(SLAB, n - first)
        not_finite[:] = 0.0
        for i in range(k):
            for pixel in range(width):
                b[i, pixel] = linear[i, first + pixel]
                not_finite[pixel] += 0.0 * b[i, pixel]  # NaN where a product is not finite
        state[:] = SOLVED if mapped else FAILED
        if mapped:
            _start(width, table)
        for pixel in range(width):
            if valid[first + pixel] and not_finite[pixel] == 0.0:
                stats[PIXELS] += 1
            else:
                state[pixel] = NONE
        if mapped:
            _pivot(width, table, stats)
        for pixel in range(width):
            if state[pixel] == FAILED:
                steps = _active_set(pixel, table)
                stats[FALLBACKS] += 1
                stats[PIVOTS] += steps
                stats[MOST_PIVOTS] = max(stats[MOST_PIVOTS], steps)
            elif state[pixel] == NONE:
                a[0, pixel] = np.nan  # the division by the sum makes all others NaN too
        _certify(width, size, table, kkt[first : first + width])
        for i in range(k):
            for pixel in range(width):
                abundance[i, first + pixel] = a[i, pixel]


def dependent(gram: Floats) -> list[list[int]] | None:
    """Return indices of endmembers that are equal or affine mixtures of each other, one list a relation, or None.

    gram (k, k): products of the endmembers, less any fixed spectrum. Two are equal, or one lies in the plane of others,
    where the squared distance is below 1e-12 of the largest: float64 products do not resolve smaller distances.
    """
    square = np.diag(gram)
    distance = square[:, None] + square[None, :] - gram - gram.T
    near = distance <= DEPENDENCE * max(float(distance.max()), float(np.abs(square).max()))
    first = near.argmax(1)  # the lowest index that each one equals
    distinct = np.unique(first)
    groups = [np.flatnonzero(first == i).tolist() for i in distinct if (first == i).sum() > 1]
    r, others = distinct[0], distinct[1:]
    differences = gram[np.ix_(others, others)] - gram[others, r][:, None] - gram[r, others][None, :] + gram[r, r]
    basis, rest = _pivoted(differences)
    for j in rest:
        shares = np.linalg.solve(differences[np.ix_(basis, basis)], differences[basis, j])
        group = [int(others[i]) for i, share in zip(basis, shares, strict=True) if abs(share) > NAMED_SHARE]
        if abs(1.0 - shares.sum()) > NAMED_SHARE:
            group.append(int(r))
        groups.append(sorted([*group, int(others[j])]))
    return groups or None


def _pivoted(matrix: Floats) -> tuple[list[int], list[int]]:
    """Return the rows that pivoted Cholesky finds independent, in its order, and the other rows."""
    remainder = matrix.copy()
    basis: list[int] = []
    rest = list(range(len(matrix)))
    least = DEPENDENCE * float(np.diag(matrix).max(initial=0.0))
    while rest:
        best = max(rest, key=lambda i: remainder[i, i])
        if not remainder[best, best] > least:
            break
        remainder -= np.outer(remainder[:, best], remainder[best]) / remainder[best, best]
        basis.append(best)
        rest.remove(best)
    return basis, rest
