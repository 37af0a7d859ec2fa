"""What an audit has found, as a record and as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Difference:
    """How far a product lies from the reference, over the sample."""

    worst: float
    mean: float
    y: float
    """where the worst is: pixel centre"""
    x: float


@dataclass
class Audit:
    """What an audit has found. Differences above 1 in size count relative to the reference."""

    out: str
    tolerance: float
    image: int
    """pixels of the whole image"""
    pixels: int = 0
    """pixels looked at"""
    valid: int = 0
    """those with data, computed again"""
    left_out: int = 0
    """those with data in the tile that the run was told to leave out or could not decode"""
    differences: dict[str, Difference] = field(default_factory=dict)
    wrong_labels: dict[str, int] = field(default_factory=dict)
    wrong_no_data: int = 0
    """pixels that hold values without data in the tile, or none with data"""
    first_wrong: dict[str, tuple[float, float]] = field(default_factory=dict)
    """y and x of the first wrong label or no-data"""

    @property
    def passed(self) -> bool:
        near = all(each.worst <= self.tolerance for each in self.differences.values())
        return near and not any(self.wrong_labels.values()) and not self.wrong_no_data

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "out": self.out,
            "passed": self.passed,
            "tolerance": self.tolerance,
            "image": self.image,
            "pixels": self.pixels,
            "valid": self.valid,
            "left_out": self.left_out,
            "differences": {name: vars(each) for name, each in self.differences.items()},
            "wrong_labels": self.wrong_labels,
            "wrong_no_data": self.wrong_no_data,
            "first_wrong": {name: list(at) for name, at in self.first_wrong.items()},
        }


def as_text(report: Audit) -> str:
    """A report for people."""
    lines = [
        f"{report.out}: {report.pixels} of {report.image} pixels, {report.valid} computed again"
        + (f", {report.left_out} left out by the run" if report.left_out else ""),
        f"{'':14}{'worst':>10}{'mean':>10}   worst at (x, y); up to {report.tolerance:g} is right",
    ]
    for name, each in report.differences.items():
        mark = "" if each.worst <= report.tolerance else "   DIFFERS"
        lines.append(f"{name:14}{each.worst:10.2g}{each.mean:10.2g}   ({each.x:.10g}, {each.y:.10g}){mark}")
    for name, count in {**report.wrong_labels, "no-data": report.wrong_no_data}.items():
        where = ""
        if count:
            y, x = report.first_wrong[name]
            where = f"   first at ({x:.10g}, {y:.10g})   DIFFERS"
        lines.append(f"{name:14}{count:10} wrong{where}")
    lines.append("passed" if report.passed else "FAILED")
    return "\n".join(lines)
