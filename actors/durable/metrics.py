"""A partition's condition as Prometheus metrics, by Ray's own exporter.

One series for each partition and never one for each entity. In Prometheus the names carry Ray's
prefix: ``ray_kontor_partition_commands_total``.
"""

from __future__ import annotations

from typing import Any, Final

from ray.util.metrics import Counter, Gauge

_TAGS: Final = ("kind", "stream")

_COUNTERS: Final = {
    "turns": "Turns committed",
    "commands": "Commands, messages and confirmations carried out",
    "commit_seconds": "Seconds spent in commits",
    "checkpoints": "Checkpoints stored",
    "recoveries": "Times that memory was read back from the journal",
}

_GAUGES: Final = {
    "queue": "Items waiting for a turn",
    "lag": "Turns decided and not committed",
    "position": "Journal position",
    "since_checkpoint": "Turns since the last checkpoint",
    "entities": "Entities in memory",
    "in_transit": "Messages on their way to other partitions",
    "epoch": "Epoch of the present incarnation",
    "slots": "Slots owned",
}


class PartitionMetrics:
    """Keeps Ray's metrics up to a partition's ``describe``."""

    def __init__(self, kind: str, stream: str) -> None:
        tags = {"kind": kind, "stream": stream}
        self._counted: dict[str, float] = {}
        self._counters = {
            name: Counter(f"kontor_partition_{name}", text, _TAGS)
            for name, text in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"kontor_partition_{name}", text, _TAGS) for name, text in _GAUGES.items()
        }
        self._up = Gauge("kontor_partition_up", "1 while the partition takes commands", _TAGS)
        for metric in (*self._counters.values(), *self._gauges.values(), self._up):
            metric.set_default_tags(tags)

    def update(self, description: dict[str, Any]) -> None:
        """Take over what ``Partition.describe`` says."""
        for name, counter in self._counters.items():
            value = float(description[name])
            grown = value - self._counted.get(name, 0.0)
            if grown > 0:
                counter.inc(grown)
            self._counted[name] = value
        for name, gauge in self._gauges.items():
            gauge.set(float(description[name]))
        self._up.set(float(description["state"] == "running"))
