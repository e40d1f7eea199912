"""Reads what a scrape gets, as strictly as OpenMetrics is defined."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def families_of(text: str) -> Iterable[Metric]:
    """Yield the metrics in a text. Raises ValueError if it is no OpenMetrics."""
    yield from text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
