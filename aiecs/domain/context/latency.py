"""Durations in bounded histograms."""

from __future__ import annotations

from typing import NamedTuple

_STEPS = 8
_BUCKETS = 40 * _STEPS


class Latency(NamedTuple):
    """How long calls took, in seconds; zeros before the first one."""

    calls: int = 0
    average: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


class Histogram:
    """Durations from 1 microsecond to days in 320 buckets, each at most 12.5 % wide."""

    __slots__ = ("_counts", "count", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.seconds = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        micros = int(seconds * 1_000_000)
        if micros >= _STEPS:
            length = micros.bit_length() - 4
            micros = length * _STEPS + (micros >> length)
        self._counts[micros if micros < _BUCKETS else -1] += 1
        self.count += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Count everything that `other` counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self.count += other.count
        self.seconds += other.seconds

    def latency(self) -> Latency:
        """The summary."""
        if not self.count:
            return Latency()
        average = self.seconds / self.count
        return Latency(self.count, average, self._quantile(0.5), self._quantile(0.99))

    def _quantile(self, share: float) -> float:
        wanted, seen = share * sum(self._counts), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return _upper(bucket) / 1_000_000
        return 0.0


def _upper(bucket: int) -> int:
    """The longest duration of a bucket, in microseconds."""
    if bucket < _STEPS:
        return bucket + 1
    length, step = divmod(bucket, _STEPS)
    return (_STEPS + step + 1) << (length - 1)
