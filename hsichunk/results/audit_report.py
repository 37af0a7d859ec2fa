"""The result of an audit, as a record and as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


@dataclass(frozen=True)
class Difference:
    """How far a product lies from the reference, over the sample."""

    worst: float
    mean: float
    y: float
    """pixel centre where the worst difference is"""
    x: float


class AuditDict(TypedDict):
    """The content of an Audit as plain values."""

    out: str
    passed: bool
    tolerance: float
    image: int
    pixels: int
    valid: int
    left_out: int
    differences: dict[str, dict[str, float]]
    wrong_labels: dict[str, int]
    wrong_no_data: int
    first_wrong: dict[str, list[float]]


@dataclass
class Audit:
    """The result of an audit. Differences are relative where the value of the reference is above 1 in size."""

    out: str
    """the folder of the run"""
    tolerance: float
    """largest difference that passes"""
    image: int
    """pixels of the whole image"""
    pixels: int = 0
    """pixels of the sample"""
    valid: int = 0
    """those with data, which were computed again"""
    left_out: int = 0
    """those with data in the tile that the run was told to leave out or could not decode"""
    differences: dict[str, Difference] = field(default_factory=dict)
    """by product"""
    wrong_labels: dict[str, int] = field(default_factory=dict)
    """pixels with a wrong label, by class map"""
    wrong_no_data: int = 0
    """pixels that hold values without data in the tile, or no values in spite of data there"""
    first_wrong: dict[str, tuple[float, float]] = field(default_factory=dict)
    """y and x of the first wrong label, by class map, or of the first wrong "no-data" """

    @property
    def passed(self) -> bool:
        """Whether all differences are within the tolerance, and no label and no no-data is wrong."""
        near = all(each.worst <= self.tolerance for each in self.differences.values())
        return near and not any(self.wrong_labels.values()) and not self.wrong_no_data

    def as_dict(self) -> AuditDict:
        """Return the content as plain values, for JSON."""
        return {
            "out": self.out,
            "passed": self.passed,
            "tolerance": self.tolerance,
            "image": self.image,
            "pixels": self.pixels,
            "valid": self.valid,
            "left_out": self.left_out,
            "differences": {name: vars(difference) for name, difference in self.differences.items()},
            "wrong_labels": self.wrong_labels,
            "wrong_no_data": self.wrong_no_data,
            "first_wrong": {name: list(at) for name, at in self.first_wrong.items()},
        }


def as_text(report: Audit) -> str:
    """Return the result as text, one line a product."""
    lines = [
        f"{report.out}: {report.pixels} of {report.image} pixels, {report.valid} computed again"
        + (f", {report.left_out} left out by the run" if report.left_out else ""),
        f"{'':14}{'worst':>10}{'mean':>10}   worst at (x, y); up to {report.tolerance:g} is right",
    ]
    for name, off in report.differences.items():
        mark = "" if off.worst <= report.tolerance else "   DIFFERS"
        lines.append(f"{name:14}{off.worst:10.2g}{off.mean:10.2g}   ({off.x:.10g}, {off.y:.10g}){mark}")
    for name, count in {**report.wrong_labels, "no-data": report.wrong_no_data}.items():
        where = ""
        if count:
            y, x = report.first_wrong[name]
            where = f"   first at ({x:.10g}, {y:.10g})   DIFFERS"
        lines.append(f"{name:14}{count:10} wrong{where}")
    lines.append("passed" if report.passed else "FAILED")
    return "\n".join(lines)
