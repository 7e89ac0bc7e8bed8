"""Batches of waiting images, from any requests."""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from numpy.typing import NDArray

from featstore.predicted import Prediction
from featstore.prediction import Predictor
from featstore.serving.metrics import Metrics

__all__ = ["Answer", "Batcher", "BusyError"]

Answer: TypeAlias = tuple[Prediction, NDArray[Any] | None]

_MOST_IMAGES = 32
# While one batch passes, the next is decoded, and its requests are read.
_LANES = 2


class BusyError(Exception):
    """More images wait than the server takes."""


class Batcher:
    """Passes waiting images through a predictor: as many at once as have come while it was busy.

    Nothing waits for others to come, so a single request is as fast as it can be.
    """

    def __init__(self, name: str, predictor: Predictor, metrics: Metrics, *, most_waiting: int) -> None:
        self._name = name
        self._predictor = predictor
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[bytes, asyncio.Future[Answer]]] = deque()
        self._come = asyncio.Event()
        self._pool = ThreadPoolExecutor(_LANES, thread_name_prefix=f"featstore-{name}")
        self._lanes: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to answer; called on the loop."""
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(_LANES)]

    async def stop(self) -> None:
        """Stop answering, once the batches under way are done."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)

    async def predict(self, images: list[bytes]) -> list[Answer]:
        """Return the answers for images, in order; each lists all classes."""
        if len(self._waiting) + len(images) > self._most_waiting:
            raise BusyError(f"{len(self._waiting)} images are waiting; try again in a second")
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._waiting.extend(zip(images, futures, strict=True))
        self._come.set()
        try:
            return list(await asyncio.gather(*futures))
        finally:
            # Of a client that is gone, what still waits is not computed.
            for future in futures:
                future.cancel()

    async def _lane(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._come.wait()
            batch = self._taken()
            if not batch:
                self._come.clear()
                continue
            self._metrics.batch_size.labels(self._name).observe(len(batch))
            try:
                answers = await loop.run_in_executor(self._pool, self._answers, [image for image, _ in batch])
            except Exception as error:  # noqa: BLE001
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _taken(self) -> list[tuple[bytes, asyncio.Future[Answer]]]:
        batch: list[tuple[bytes, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < _MOST_IMAGES:
            one = self._waiting.popleft()
            if not one[1].done():
                batch.append(one)
        return batch

    def _answers(self, images: list[bytes]) -> list[Answer]:
        return list(self._predictor.stream_features(images, top=len(self._predictor.classes)))
