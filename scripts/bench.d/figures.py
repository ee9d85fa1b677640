"""Medians, quantiles, growth, and the table."""

import math
import statistics

median = statistics.median


def quantile(values, q):
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]


def exponent(points):
    """Least squares over logarithms: how y grows with x; 1 is linear. Points: (x, y)."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (statistics.fmean(axis) for axis in zip(*logs))
    over = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return over / sum((x - mean_x) ** 2 for x, _ in logs)


def spread(values):
    """`median (least - most)`, for ratios of rounds."""
    return f"{median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def table(head, rows):
    """A Markdown table; all columns but the first to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
