"""What a server counts, as Prometheus reads it."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from predgen.serving.batching import Batcher

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
METHODS = ("GET", "POST", "HEAD", "OPTIONS")
OTHER = "other"


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "predgen_requests", "Requests that were answered.", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "predgen_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("predgen_rows", "Rows that were answered.", ["model"], registry=self.registry)
        self._cut = Counter(
            "predgen_cut_prompts", "Prompts that were cut to fit the model.", ["model"], registry=self.registry
        )
        self._batches = Histogram(
            "predgen_batch_rows", "Rows of a prediction.", ["model"], buckets=ROWS, registry=self.registry
        )
        self._waiting = Gauge(
            "predgen_waiting_rows", "Rows that wait for their turn.", ["model"], registry=self.registry
        )

    def follow(self, batchers: Mapping[str, Batcher]) -> None:
        """Reads the queues of models when it is asked."""
        for name, batcher in batchers.items():
            self._waiting.labels(name).set_function(partial(_waiting_of, batcher))

    def batch(self, model: str, rows: int, cut: int) -> None:
        """Counts a prediction.

        Args:
            model: its name.
            rows: how many rows.
            cut: how many of their prompts were cut.
        """
        self._rows.labels(model).inc(rows)
        self._cut.labels(model).inc(cut)
        self._batches.labels(model).observe(rows)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            route: its path; one of few, as each is kept.
            method: as HTTP names it.
            status: of the answer.
            seconds: that it took.
        """
        self._requests.labels(route, method if method in METHODS else OTHER, status).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, route: str) -> tuple[int, int]:
        """Returns how many requests of a route were answered, and how many of them with an error.

        Args:
            route: its path.
        """
        samples = [sample for metric in self._requests.collect() for sample in metric.samples]
        counts = [
            (sample.labels["status"], int(sample.value))
            for sample in samples
            if sample.name.endswith("_total") and sample.labels["route"] == route
        ]
        return sum(count for _, count in counts), sum(count for status, count in counts if status != "200")

    def text(self) -> bytes:
        """Returns everything in Prometheus's text form."""
        return generate_latest(self.registry)


def _waiting_of(batcher: Batcher) -> int:
    return batcher.waiting
