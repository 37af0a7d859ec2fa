"""Sums over blocks of pixels, written as LLVM instructions: numba's own loops would keep them in memory.

A block is `PIXELS` pixels wide, and a row of it holds one band or one sum. No function here checks bounds. Vectors have
eight lanes, which LLVM maps to one register with AVX-512, two with AVX2 and four with NEON. A processor fuses products
and sums either everywhere or nowhere: the last bit of sums that are not exact depends on the processor, but not on the
position of a pixel in the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numba.extending
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.base import BaseContext as Context
from numba.core.typing.context import BaseContext as TypingContext
from numba.core.typing.templates import Signature

from hsichunk.array_types import Floats

PIXELS = 32
LANES = 8
_HALF = 16  # pixels: three rows of their sums, the operands and a weight fit in AVX2's sixteen registers

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_COUNTS = ir.VectorType(ir.IntType(16), LANES)
_BITS = {_DOUBLES: 64, _FLOATS: 32, _COUNTS: 16}
_ZEROS = ir.Constant(_DOUBLES, [0.0] * LANES)

Values = Sequence[ir.Value]
Generate = Callable[[Context, ir.IRBuilder, Signature, Values], ir.Value]
"""(numba's target, LLVM builder, signature, values of the arguments) to the value of the call"""
Definition = tuple[Signature, Generate]
"""What numba wants of an intrinsic: the types of its arguments and result, and the function that writes its code."""

# An intrinsic is defined on the types of its arguments and called by kernels with their values: no signature says both.
intrinsic: Any = numba.extending.intrinsic


def _index(n: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), n)


def _lane(n: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), n)


def _load(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.VectorType) -> ir.Value:
    """Load the vector at a pointer to a number; it need not be aligned better than that number."""
    loaded = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    loaded.align = _BITS[kind] // 8
    return loaded


def _store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
    """Store a vector at a pointer to a number; it need not be aligned better than that number."""
    stored = builder.store(value, builder.bitcast(pointer, value.type.as_pointer()))
    stored.align = _BITS[value.type] // 8


def _broadcast(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Return a vector with one number in every lane."""
    undefined = ir.Constant(_DOUBLES, ir.Undefined)
    first = builder.insert_element(undefined, value, _lane(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))


@intrinsic
def pointer_to(typing: TypingContext, array: types.Array, row: types.Integer, column: types.Integer) -> Definition:
    """Return a pointer to the element (row, column) of an array; `row` is 0 for an array of one dimension.

    The pointer does not keep the array alive, and numba frees an array after the last line that names it: take pointers
    to arguments of the kernel alone.
    """

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        indices = list(arguments[-array.ndim :])
        return cgutils.get_item_pointer(context, builder, signature.args[0], struct, indices, wraparound=False)

    return types.CPointer(array.dtype)(array, types.intp, types.intp), generate


@intrinsic
def prefetch(typing: TypingContext, pointer: types.CPointer) -> Definition:
    """Prefetch the cache line at `pointer`; it may lie past the array.

    Rows of bands and of sums are many, and a processor foresees the next line of only a few rows at a time.
    """

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0"
        )
        hints = [ir.Constant(number, n) for n in (0, 3, 1)]  # for reading, to be kept in the cache, data
        builder.call(function, [builder.bitcast(arguments[0], byte), *hints])
        return context.get_dummy_value()

    return types.void(pointer), generate


@intrinsic
def copy_counts(typing: TypingContext, source: types.CPointer, counts: types.CPointer) -> Definition:
    """counts[:PIXELS] = source[:PIXELS], int16."""

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        source, counts = arguments
        for i in range(0, PIXELS, LANES):
            at = [_index(i)]
            _store(builder, _load(builder, builder.gep(source, at), _COUNTS), builder.gep(counts, at))
        return context.get_dummy_value()

    return types.void(source, counts), generate


@intrinsic
def transpose_counts(
    typing: TypingContext, source: types.CPointer, depth: types.Integer, counts: types.CPointer
) -> Definition:
    """counts[b, :LANES] = source[:LANES, b] for LANES bands b, int16.

    Pixels of `source` are `depth` values apart, bands of `counts` PIXELS values.
    """

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        source, depth, counts = arguments
        for b, values in enumerate(_transposed(builder, _load_rows(builder, source, depth, _COUNTS))):
            _store(builder, values, builder.gep(counts, [_index(b * PIXELS)]))
        return context.get_dummy_value()

    return types.void(source, depth, counts), generate


@intrinsic
def transpose_floats(
    typing: TypingContext, source: types.CPointer, depth: types.Integer, scale: types.Float, x: types.CPointer,
    stride: types.Integer, marks: types.CPointer,
) -> Definition:  # fmt: skip
    """x[b, :LANES] = source[:LANES, b] * scale for LANES bands b, from float32 or float64 to float64.

    Pixels of `source` are `depth` values apart, bands of `x` `stride` values. marks[:LANES] float64 become NaN where a
    value is not finite.
    """
    kind = _DOUBLES if source.dtype == types.float64 else _FLOATS

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        source, depth, scale, x, stride, marks = arguments
        scales, marked = _broadcast(builder, scale), _load(builder, marks, _DOUBLES)
        for b, values in enumerate(_transposed(builder, _load_rows(builder, source, depth, kind))):
            doubles = values if kind is _DOUBLES else builder.fpext(values, _DOUBLES)
            marked = builder.fadd(marked, builder.fmul(doubles, _ZEROS))  # NaN and infinity times zero are NaN
            _store(builder, builder.fmul(doubles, scales), builder.gep(x, [builder.mul(stride, _index(b))]))
        _store(builder, marked, marks)
        return context.get_dummy_value()

    return types.void(source, depth, scale, x, stride, marks), generate


def _load_rows(builder: ir.IRBuilder, source: ir.Value, depth: ir.Value, kind: ir.VectorType) -> list[ir.Value]:
    """Load LANES vectors that begin `depth` values apart."""
    return [_load(builder, builder.gep(source, [builder.mul(depth, _index(i))]), kind) for i in range(LANES)]


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Return LANES vectors of LANES with rows and columns exchanged."""
    # each round exchanges half of a vector's lanes with those of the vector half as far away as in the round before
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
def counts_to_doubles(
    typing: TypingContext, counts: types.CPointer, bands: types.Integer, x: types.CPointer
) -> Definition:
    """x[:bands, :PIXELS] = counts[:bands, :PIXELS], int16 to float64; returns the lowest count."""

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
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


def _lower(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    """Return the lower of two counts, or of two vectors of counts lane by lane."""
    return builder.select(builder.icmp_signed("<", one, other), one, other)


@intrinsic
def look_up(
    typing: TypingContext, counts: types.CPointer, bands: types.Integer, table: types.CPointer, unit: types.Float,
    values: types.CPointer,
) -> Definition:  # fmt: skip
    """values[:bands, :PIXELS] = table[counts] * unit, int32 to float64; `table` points to the entry of count 0."""

    def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
        counts, bands, table, unit, values = arguments
        units = _broadcast(builder, unit)
        blocks = builder.mul(bands, _index(PIXELS // LANES))
        with cgutils.for_range(builder, blocks, intp=ir.IntType(64)) as loop:
            start = builder.mul(loop.index, _index(LANES))
            entries = ir.Constant(_INTS, ir.Undefined)
            # one by one, from memory: processors have no gather that is faster
            for lane in range(LANES):
                count = builder.load(builder.gep(counts, [builder.add(start, _index(lane))]))
                entry = builder.load(builder.gep(table, [builder.sext(count, ir.IntType(64))]))
                entries = builder.insert_element(entries, entry, _lane(lane))
            _store(builder, builder.fmul(builder.sitofp(entries, _DOUBLES), units), builder.gep(values, [start]))
        return context.get_dummy_value()

    return types.void(counts, types.intp, table, unit, values), generate


Step = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]
"""(builder, weight or second factor, x, the row so far) to the row with one more band"""


def _add_product(builder: ir.IRBuilder, y: ir.Value, x: ir.Value, total: ir.Value) -> ir.Value:
    """total + y x"""
    return builder.fadd(builder.fmul(y, x, flags=["contract"]), total, flags=["contract"])


def _larger_difference(builder: ir.IRBuilder, e: ir.Value, x: ir.Value, largest: ir.Value) -> ir.Value:
    """max(largest, |x - e|)"""
    difference = builder.fsub(x, e)
    size = builder.select(builder.fcmp_ordered("<", difference, _ZEROS), builder.fsub(e, x), difference)
    return builder.select(builder.fcmp_ordered(">", size, largest), size, largest)


def _rows_intrinsic(rows: int, width: int, step: Step, *, by_weights: bool) -> Any:
    """Return an intrinsic that updates `rows` rows of sums, `width` pixels of each, in registers over all bands.

    With `by_weights`, y holds one weight a band and row; without, values of the same pixels as x.
    """

    @intrinsic
    def update_rows(
        typing: TypingContext, y: types.CPointer, y_stride: types.Integer, x: types.CPointer, x_stride: types.Integer,
        bands: types.Integer, total: types.CPointer, total_stride: types.Integer,
    ) -> Definition:  # fmt: skip
        def generate(context: Context, builder: ir.IRBuilder, signature: Signature, arguments: Values) -> ir.Value:
            y, y_stride, x, x_stride, bands, total, total_stride = arguments

            def pointers(base: ir.Value, row: ir.Value, stride: ir.Value) -> list[ir.Value]:
                """Return pointers to the vectors of one row of an array."""
                starts = range(0, width, LANES)
                return [builder.gep(base, [builder.add(builder.mul(row, stride), _index(i))]) for i in starts]

            targets = [pointer for r in range(rows) for pointer in pointers(total, _index(r), total_stride)]
            sums = [cgutils.alloca_once(builder, _DOUBLES) for _ in targets]  # LLVM turns these into registers
            for target, so_far in zip(targets, sums, strict=True):
                builder.store(_load(builder, target, _DOUBLES), so_far)
            with cgutils.for_range(builder, bands, intp=ir.IntType(64)) as loop:
                xs = [_load(builder, pointer, _DOUBLES) for pointer in pointers(x, loop.index, x_stride)]
                for r in range(rows):
                    if by_weights:
                        at = builder.add(builder.mul(y_stride, _index(r)), loop.index)
                        ys = [_broadcast(builder, builder.load(builder.gep(y, [at])))] * len(xs)
                    else:
                        ys = [_load(builder, pointer, _DOUBLES) for pointer in pointers(y, loop.index, y_stride)]
                    for so_far, y_lanes, x_lanes in zip(sums[r * len(xs) :], ys, xs, strict=False):
                        builder.store(step(builder, y_lanes, x_lanes, builder.load(so_far)), so_far)
            for target, so_far in zip(targets, sums, strict=True):
                _store(builder, builder.load(so_far), target)
            return context.get_dummy_value()

        return types.void(y, types.intp, x, types.intp, types.intp, total, types.intp), generate

    return update_rows


# (y, its stride, x, its stride, bands, total, its stride): rows of `total` are updated with all bands of x. A processor
# stays busy only with four sums and more under way: a row that is alone takes all the pixels of a block.
_add_row, _add_two_rows, _add_three_rows = (
    _rows_intrinsic(n, width, _add_product, by_weights=True) for n, width in ((1, PIXELS), (2, _HALF), (3, _HALF))
)
_add_dots = _rows_intrinsic(1, PIXELS, _add_product, by_weights=False)
_update_largest = _rows_intrinsic(1, PIXELS, _larger_difference, by_weights=True)


@njit(nogil=True)
def add_rows(
    weights: Floats, first: int, last: int, to: int, x: Floats, at: int, bands: int, total: Floats, row: int, begin: int
) -> None:
    """Add the products of weights and bands to rows of sums, for PIXELS pixels.

    total[row:, begin : begin + PIXELS] += weights[first:last, to : to + bands] @ x[:bands, at : at + PIXELS].
    float64, of each the last dimension contiguous; terms are added in the order of bands.
    """
    w_stride, x_stride, stride = weights.strides[0] // 8, x.strides[0] // 8, total.strides[0] // 8
    while first < last:
        remaining = last - first
        rows = 3 if remaining == 3 or remaining > 4 else min(remaining, 2)
        w = pointer_to(weights, first, to)
        if rows == 1:
            _add_row(w, w_stride, pointer_to(x, 0, at), x_stride, bands, pointer_to(total, row, begin), stride)
        else:
            for i in range(0, PIXELS, _HALF):
                xs, sums = pointer_to(x, 0, at + i), pointer_to(total, row, begin + i)
                if rows == 2:
                    _add_two_rows(w, w_stride, xs, x_stride, bands, sums, stride)
                else:
                    _add_three_rows(w, w_stride, xs, x_stride, bands, sums, stride)
        first += rows
        row += rows


@njit(nogil=True)
def add_dot(x: Floats, y: Floats, at: int, bands: int, total: Floats, row: int, begin: int) -> None:
    """total[row, begin : begin + PIXELS] += the sum over bands of x y, pixels at.. of both; order as in `add_rows`."""
    x_stride, y_stride, stride = x.strides[0] // 8, y.strides[0] // 8, total.strides[0] // 8
    xs, ys, sums = pointer_to(x, 0, at), pointer_to(y, 0, at), pointer_to(total, row, begin)
    _add_dots(xs, x_stride, ys, y_stride, bands, sums, stride)


@njit(nogil=True)
def update_row_of_largest(
    spectra: Floats, r: int, to: int, x: Floats, bands: int, total: Floats, row: int, begin: int
) -> None:
    """total[row, begin : begin + PIXELS] becomes the largest |x - spectra[r, to : to + bands]| over bands so far."""
    e, xs, largest = pointer_to(spectra, r, to), pointer_to(x, 0, 0), pointer_to(total, row, begin)
    _update_largest(e, 0, xs, x.strides[0] // 8, bands, largest, total.strides[0] // 8)
