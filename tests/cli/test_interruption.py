import contextlib
import json
import os
import signal
import threading

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore_cli.interruption import stoppable
from featstore_cli.main import main


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("code", "stop"), [(130, press_ctrl_c), (143, lambda: signal.raise_signal(signal.SIGTERM))]
)
def test_a_stopped_extraction_seals_and_says_how_to_go_on(photos, tmp_path, monkeypatch, code, stop):
    def press(number):
        if number == 2:
            stop()

    backbone = CountingBackbone(before_batch=press)
    monkeypatch.setattr("featstore.flow.extraction.load_backbones", lambda name, **options: [backbone])
    store = tmp_path / "photos.fstore"
    result = CliRunner().invoke(main, ["extract", str(photos), "--store", str(store), "--json"])
    assert result.exit_code == code
    assert json.loads(result.stdout)["extracted"] == 8
    assert "run the same command to resume" in result.stderr
    assert featstore.FeatureStore(store).space().n_rows == 8


def extract_stopped_by(press, photos, tmp_path, monkeypatch):
    backbone = CountingBackbone(before_batch=lambda number: press() if number == 2 else None)
    monkeypatch.setattr("featstore.flow.extraction.load_backbones", lambda name, **options: [backbone])
    return CliRunner().invoke(main, ["extract", str(photos), "--store", str(tmp_path / "s.fstore"), "--json"])


def test_ctrl_c_while_sealing_does_not_cut_it_short(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("featstore_cli.interruption._SAME_PRESS_SECONDS", 0)
    append = featstore.store.Space.append

    def pressed_again(self, *arguments, **options):
        signal.raise_signal(signal.SIGINT)
        append(self, *arguments, **options)

    monkeypatch.setattr(featstore.store.Space, "append", pressed_again)
    result = extract_stopped_by(lambda: signal.raise_signal(signal.SIGINT), photos, tmp_path, monkeypatch)
    assert (result.exit_code, json.loads(result.stdout)["extracted"]) == (130, 8)
    opened = featstore.FeatureStore(tmp_path / "s.fstore")
    assert (opened.space().n_rows, opened.catalog_names) == (8, ("photos",))


def test_ctrl_c_that_python_drops_is_not_lost_and_ends_what_is_waited_for(photos, tmp_path, monkeypatch):
    class Pressed:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    reading, writing = os.pipe()
    too_late = threading.Timer(60, os.write, [writing, b"!"])

    def press():
        Pressed()
        os.read(reading, 1)

    too_late.start()
    try:
        result = extract_stopped_by(press, photos, tmp_path, monkeypatch)
        assert too_late.is_alive()
    finally:
        too_late.cancel()
        too_late.join()
        os.close(reading)
        os.close(writing)
    assert (result.exit_code, "Traceback" in result.stderr) == (130, False)


def test_ctrl_c_that_a_library_makes_another_error_of_is_still_reported_as_one(photos, tmp_path, monkeypatch):
    def press():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None

    result = extract_stopped_by(press, photos, tmp_path, monkeypatch)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_dropped_as_the_command_ends_does_not_reach_the_handler_of_the_process(number):
    class Stopped:
        def __del__(self):
            signal.raise_signal(number)

    reached = []
    before = signal.signal(number, lambda number, frame: reached.append(number))
    try:
        # Where the signal is sent again before the block ends, it is one to the command.
        with contextlib.suppress(KeyboardInterrupt), stoppable() as stop:
            Stopped()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    finally:
        signal.signal(number, before)
    assert (stop.status, reached) == (128 + number, [])
