"""What a server counts, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

__all__ = ["Metrics"]


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "featstore_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "featstore_request_seconds", "Time to answer a request.", ["route"], registry=self.registry
        )
        self.images = Counter(
            "featstore_images", "Images answered.", ["model", "outcome"], registry=self.registry
        )
        self.batch_size = Histogram(
            "featstore_batch_images",
            "Images that passed together.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return all of them as text."""
        return generate_latest(self.registry)
