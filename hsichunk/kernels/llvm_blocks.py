"""Blocks of pixels side by side, in LLVM's words: what loops of numba send through memory stays in registers here.

A block is `PIXELS` pixels wide, a row of it one band or one sum. Nothing checks bounds. Vectors of eight are what LLVM
makes of them: one register with AVX-512, two with AVX2, four with NEON. Products and sums may be fused, on a processor
everywhere or nowhere: the last bit of sums that are not exact depends on it, but not on their place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numba.core.cgutils
import numba.extending
from llvmlite import ir

PIXELS = 32
LANES = 8
_HALF = 16  # pixels: three rows of their sums, the operands and a weight fit in AVX2's sixteen registers

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_COUNTS = ir.VectorType(ir.IntType(16), LANES)
_BITS = {_DOUBLES: 64, _FLOATS: 32, _COUNTS: 16}

Value = Any
"""a value of LLVM's, as llvmlite has no types for them"""
intrinsic: Any = numba.extending.intrinsic
njit: Any = numba.njit(nogil=True)
types: Any = numba.types
cgutils: Any = numba.core.cgutils


def _index(n: int) -> Value:
    return ir.Constant(ir.IntType(64), n)


def _lane(n: int) -> Value:
    return ir.Constant(ir.IntType(32), n)


def _load(builder: Any, pointer: Value, kind: Any) -> Value:
    """The vector at a pointer to a number, at no more than that number's alignment."""
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = _BITS[kind] // 8
    return loaded


def _store(builder: Any, value: Value, pointer: Value) -> None:
    stored = builder.store(value, builder.bitcast(pointer, value.type.as_pointer()))
    stored.align = _BITS[value.type] // 8


def _spread(builder: Any, value: Value) -> Value:
    """A number in every lane."""
    nothing = ir.Constant(_DOUBLES, ir.Undefined)
    first = builder.insert_element(nothing, value, _lane(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))


@intrinsic
def place(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """The address of an element of an array of two dimensions, or of one: then `row` is 0.

    It does not keep the array alive, which numba frees where it is named for the last time: for arguments alone.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        at = list(arguments[-array.ndim :])
        return cgutils.get_item_pointer(context, builder, signature.args[0], found, at, wraparound=False)

    return types.CPointer(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def ask_for(typing: Any, pointer: Any) -> Any:
    """Prefetch the cache line at a pointer, which may lie past the array: a processor foresees few rows at a time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0"
        )
        how = [ir.Constant(number, n) for n in (0, 3, 1)]  # to be read, to be kept, data
        builder.call(prefetch, [builder.bitcast(arguments[0], byte), *how])
        return context.get_dummy_value()

    return types.void(pointer), generate


@intrinsic
def fetch(typing: Any, source: Any, counts: Any) -> Any:
    """counts[:PIXELS] = source[:PIXELS], int16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        source, counts = arguments
        for i in range(0, PIXELS, LANES):
            at = [_index(i)]
            _store(builder, _load(builder, builder.gep(source, at), _COUNTS), builder.gep(counts, at))
        return context.get_dummy_value()

    return types.void(source, counts), generate


@intrinsic
def fetch_turned(typing: Any, source: Any, depth: Any, counts: Any) -> Any:
    """counts[b, :LANES] = source[:LANES, b] for LANES bands b: pixels `depth` apart to bands PIXELS apart, int16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        source, depth, counts = arguments
        for b, values in enumerate(_turned(builder, _rows_of(builder, source, depth, _COUNTS))):
            _store(builder, values, builder.gep(counts, [_index(b * PIXELS)]))
        return context.get_dummy_value()

    return types.void(source, depth, counts), generate


@intrinsic
def turn_floats(typing: Any, source: Any, depth: Any, scale: Any, x: Any, stride: Any, marks: Any) -> Any:
    """x[b, :LANES] = source[:LANES, b] * scale for LANES bands b: pixels `depth` apart to bands `stride` apart.

    From float32 or float64 to float64; marks[:LANES] float64 become NaN where a value is not finite.
    """
    kind = _DOUBLES if source.dtype == types.float64 else _FLOATS

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        source, depth, scale, x, stride, marks = arguments
        scales, marked = _spread(builder, scale), _load(builder, marks, _DOUBLES)
        for b, values in enumerate(_turned(builder, _rows_of(builder, source, depth, kind))):
            wide = values if kind is _DOUBLES else builder.fpext(values, _DOUBLES)
            marked = builder.fadd(marked, builder.fmul(wide, _none()))  # NaN and infinity times zero are NaN
            _store(builder, builder.fmul(wide, scales), builder.gep(x, [builder.mul(stride, _index(b))]))
        _store(builder, marked, marks)
        return context.get_dummy_value()

    return types.void(source, depth, scale, x, stride, marks), generate


def _rows_of(builder: Any, source: Value, depth: Value, kind: Any) -> list[Value]:
    return [_load(builder, builder.gep(source, [builder.mul(depth, _index(i))]), kind) for i in range(LANES)]


def _turned(builder: Any, rows: list[Value]) -> list[Value]:
    """LANES vectors of LANES with rows and columns exchanged."""
    # each time round, half of a vector's lanes change places with those of the one half as far away
    rows, half = list(rows), LANES // 2
    while half:
        low = [lane if not lane & half else lane - half + LANES for lane in range(LANES)]
        high = [lane + half if not lane & half else lane + LANES for lane in range(LANES)]
        for i in range(LANES):
            if not i & half:
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (
                    builder.shuffle_vector(*pair, ir.Constant(_INTS, lanes)) for lanes in (low, high)
                )
        half //= 2
    return rows


@intrinsic
def as_doubles(typing: Any, counts: Any, bands: Any, x: Any) -> Any:
    """x[:bands, :PIXELS] = counts[:bands, :PIXELS], int16 to float64; returns the lowest count."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        counts, bands, x = arguments
        highest = ir.Constant(_COUNTS, [2**15 - 1] * LANES)
        lows = [cgutils.alloca_once_value(builder, highest) for _ in range(0, PIXELS, LANES)]
        with cgutils.for_range(builder, bands, intp=ir.IntType(64)) as loop:
            for i, low in zip(range(0, PIXELS, LANES), lows, strict=True):
                at = [builder.add(builder.mul(loop.index, _index(PIXELS)), _index(i))]
                values = _load(builder, builder.gep(counts, at), _COUNTS)
                builder.store(_lower(builder, values, builder.load(low)), low)
                _store(builder, builder.sitofp(builder.sext(values, _INTS), _DOUBLES), builder.gep(x, at))
        low = reduce(partial(_lower, builder), [builder.load(low) for low in lows])
        return reduce(partial(_lower, builder), [builder.extract_element(low, _lane(n)) for n in range(LANES)])

    return types.int16(counts, types.intp, x), generate


def _lower(builder: Any, one: Value, other: Value) -> Value:
    return builder.select(builder.icmp_signed("<", one, other), one, other)


@intrinsic
def look_up(typing: Any, counts: Any, bands: Any, table: Any, unit: Any, found: Any) -> Any:
    """found[:bands, :PIXELS] = table[counts] * unit, int32 to float64; `table` is where count 0 is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        counts, bands, table, unit, found = arguments
        units = _spread(builder, unit)
        blocks = builder.mul(bands, _index(PIXELS // LANES))
        with cgutils.for_range(builder, blocks, intp=ir.IntType(64)) as loop:
            start = builder.mul(loop.index, _index(LANES))
            values = ir.Constant(_INTS, ir.Undefined)
            # one by one, from memory: processors have no gather that is faster
            for lane in range(LANES):
                count = builder.load(builder.gep(counts, [builder.add(start, _index(lane))]))
                value = builder.load(builder.gep(table, [builder.sext(count, ir.IntType(64))]))
                values = builder.insert_element(values, value, _lane(lane))
            _store(builder, builder.fmul(builder.sitofp(values, _DOUBLES), units), builder.gep(found, [start]))
        return context.get_dummy_value()

    return types.void(counts, types.intp, table, unit, found), generate


Step = Callable[[Any, Value, Value, Value], Value]
"""(builder, what a row is made with, x, the row so far) to the row"""


def _add_product(builder: Any, y: Value, x: Value, total: Value) -> Value:
    return builder.fadd(builder.fmul(y, x, flags=["contract"]), total, flags=["contract"])


def _widen(builder: Any, e: Value, x: Value, furthest: Value) -> Value:
    difference = builder.fsub(x, e)
    size = builder.select(builder.fcmp_ordered("<", difference, _none()), builder.fsub(e, x), difference)
    return builder.select(builder.fcmp_ordered(">", size, furthest), size, furthest)


def _none() -> Value:
    return ir.Constant(_DOUBLES, [0.0] * LANES)


def _rows(rows: int, width: int, step: Step, *, by_weights: bool) -> Any:
    """What takes `rows` rows of sums, `width` pixels of each, through a block's bands in registers."""

    @intrinsic
    def pass_through(
        typing: Any, y: Any, y_stride: Any, x: Any, stride: Any, bands: Any, total: Any, total_stride: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            y, y_stride, x, stride, bands, total, total_stride = arguments
            starts = range(0, width, LANES)

            def row(of: Value, n: Value, stride: Value) -> list[Value]:
                return [builder.gep(of, [builder.add(builder.mul(n, stride), _index(i))]) for i in starts]

            places = [place for r in range(rows) for place in row(total, _index(r), total_stride)]
            sums = [cgutils.alloca_once(builder, _DOUBLES) for _ in places]  # registers, once LLVM has seen them
            for place, so_far in zip(places, sums, strict=True):
                builder.store(_load(builder, place, _DOUBLES), so_far)
            with cgutils.for_range(builder, bands, intp=ir.IntType(64)) as loop:
                xs = [_load(builder, at, _DOUBLES) for at in row(x, loop.index, stride)]
                for r in range(rows):
                    if by_weights:
                        at = builder.add(builder.mul(y_stride, _index(r)), loop.index)
                        ys = [_spread(builder, builder.load(builder.gep(y, [at])))] * len(xs)
                    else:
                        ys = [_load(builder, at, _DOUBLES) for at in row(y, loop.index, y_stride)]
                    for so_far, one, other in zip(sums[r * len(xs) :], ys, xs, strict=False):
                        builder.store(step(builder, one, other, builder.load(so_far)), so_far)
            for place, so_far in zip(places, sums, strict=True):
                _store(builder, builder.load(so_far), place)
            return context.get_dummy_value()

        pointers = y, types.intp, x, types.intp, types.intp, total, types.intp
        return types.void(*pointers), generate

    return pass_through


# (y, its stride, x, its stride, bands, total, its stride): rows of `total` go through the bands of x. A processor needs
# four sums and more on their way to be kept busy: one row alone takes all the pixels of a block.
_add_row, _add_two_rows, _add_three_rows = (
    _rows(n, width, _add_product, by_weights=True) for n, width in ((1, PIXELS), (2, _HALF), (3, _HALF))
)
_add_dots = _rows(1, PIXELS, _add_product, by_weights=False)
_widen_row = _rows(1, PIXELS, _widen, by_weights=True)


@njit
def add_rows(
    weights: Any, r: int, last: int, to: int, x: Any, at: int, bands: int, total: Any, row: int, begin: int
) -> None:
    """Rows row.. of `total`, pixels begin..begin+PIXELS += rows r..last of `weights`, bands to.. @ x, pixels at...

    float64, of each the last dimension contiguous; terms are added in the order of bands.
    """
    long, wide, stride = weights.strides[0] // 8, x.strides[0] // 8, total.strides[0] // 8
    while r < last:
        left = last - r
        rows = 3 if left == 3 or left > 4 else min(left, 2)
        w = place(weights, r, to)
        if rows == 1:
            _add_row(w, long, place(x, 0, at), wide, bands, place(total, row, begin), stride)
        else:
            for i in range(0, PIXELS, _HALF):
                if rows == 2:
                    _add_two_rows(w, long, place(x, 0, at + i), wide, bands, place(total, row, begin + i), stride)
                else:
                    _add_three_rows(w, long, place(x, 0, at + i), wide, bands, place(total, row, begin + i), stride)
        r += rows
        row += rows


@njit
def add_dot(x: Any, y: Any, at: int, bands: int, total: Any, row: int, begin: int) -> None:
    """One row of `total`, pixels begin..begin+PIXELS += the sum over bands of x y, pixels at..: as `add_rows` does."""
    wide, broad, stride = x.strides[0] // 8, y.strides[0] // 8, total.strides[0] // 8
    _add_dots(place(x, 0, at), wide, place(y, 0, at), broad, bands, place(total, row, begin), stride)


@njit
def widen_row(weights: Any, r: int, to: int, x: Any, bands: int, total: Any, row: int, begin: int) -> None:
    """One row of `total`, pixels begin..begin+PIXELS, becomes the largest |x - weights[r, to..]| over bands so far."""
    wide, stride = x.strides[0] // 8, total.strides[0] // 8
    _widen_row(place(weights, r, to), 0, place(x, 0, 0), wide, bands, place(total, row, begin), stride)
