"""A server on the loopback under load: its speed beside the engine's own, and how long answers take."""

import http.client
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import photos
import reporting

import featstore


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, weights = photos.find_trained(options)
        weights = weights or photos.seeded_weights(options.backbone, work)
        if folder is None:
            folder = os.path.join(work, "photos")
            photos.generate(folder, 256, side_px=(375, 500))
        store = os.path.join(work, "photos.fstore")
        featstore.extract(folder, store, backbone=options.backbone, weights=weights)
        table = featstore.FeatureStore(store).table()
        path = os.path.join(work, "served.head")
        featstore.fit(table, params={"C": 0.1}).save(path)
        images = [read(one) for one in table.paths[:: max(1, len(table) // 256)]]
        row = measured(path, weights, images, options)
    reporting.report(
        f"{options.clients} clients on the loopback, one image a request, {options.backbone}",
        tuple(row),
        [tuple(row.values())],
        path=options.json,
        rounds=options.rounds,
        seconds_a_round=options.seconds,
    )


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def measured(path: str, weights: str, images: list[bytes], options) -> dict:
    command = [sys.executable, "-m", "featstore_cli", "serve", path, "--weights", weights, "--port", "0"]
    predictor = featstore.Predictor(path, weights=weights)
    list(predictor.stream(images[:64]))
    engine, server, waits, lost = [], [], [], 0
    engine_ms, server_ms = [], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(re.search(r":(\d+)$", process.stdout.readline().strip())[1])
        load(port, images, options.clients, 3)
        first = resident_kib(process.pid)
        for number in range(options.rounds):
            reporting.note(f"round {number + 1} of {options.rounds}")
            before = time.process_time()
            rate, n_done = engine_speed(predictor, images, options.seconds / 2)
            engine_ms.append(1000 * (time.process_time() - before) / n_done)
            engine.append(rate)
            before = processor_seconds(process.pid)
            rate, found, failed = load(port, images, options.clients, options.seconds)
            server_ms.append(1000 * (processor_seconds(process.pid) - before) / len(found))
            server.append(rate)
            waits += found
            lost += failed
        last = resident_kib(process.pid)
        process.terminate()
    ratios = [one / other for one, other in zip(server, engine, strict=True)]
    p50, p99 = np.percentile(waits, [50, 99])
    return {
        "engine images/s": reporting.median(engine),
        "served images/s": reporting.median(server),
        "served over engine": reporting.median(ratios),
        "engine processor ms": reporting.median(engine_ms),
        "server processor ms": reporting.median(server_ms),
        "p50 ms": 1000 * p50,
        "p99 ms": 1000 * p99,
        "requests": len(waits),
        "lost": lost,
        "memory growth MiB": (last - first) / 1024,
    }


def engine_speed(predictor: featstore.Predictor, images: list[bytes], seconds: float) -> tuple[float, int]:
    """Return images a second through the same predictor in one stream, and how many there were."""
    end = time.perf_counter() + seconds

    def endless():
        number = 0
        while time.perf_counter() < end:
            yield images[number % len(images)]
            number += 1

    started = time.perf_counter()
    n_done = sum(1 for _ in predictor.stream(endless()))
    return n_done / (time.perf_counter() - started), n_done


def load(port: int, images: list[bytes], n_clients: int, seconds: float) -> tuple[float, list[float], int]:
    """Return images a second, the seconds of each answer, and the number of requests that failed."""
    # In a separate process, as clients are.
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=clients, args=(port, images, n_clients, seconds, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def clients(port: int, images: list[bytes], n_clients: int, seconds: float, queue) -> None:
    waits, lost = [], []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() < end:
            image = images[number % len(images)]
            number += n_clients
            body = (
                b'--a\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
                + image
                + b"\r\n--a--\r\n"
            )
            started = time.perf_counter()
            try:
                headers = {"content-type": "multipart/form-data; boundary=a"}
                connection.request("POST", "/predict?top=1", body, headers)
                answer = json.loads(connection.getresponse().read())
                assert answer["predictions"][0]["label"]
                waits.append(time.perf_counter() - started)
            except (OSError, http.client.HTTPException, AssertionError, KeyError, ValueError):
                lost.append(number)
                connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put((len(waits) / (time.perf_counter() - started), waits, len(lost)))


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and its threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


if __name__ == "__main__":
    main()
