import os

import pytest

from featstore.backbones import load_backbone
from featstore.backbones.engines import devices
from featstore.errors import BackboneError


@pytest.mark.parametrize(("visible", "seen"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_a_gpu_is_seen_unless_it_is_hidden(visible, seen, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/proc/driver/nvidia/version")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpu_in_sight() is seen


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Put a tool of the driver's name on the path, which prints what it is told to."""

    def install(script):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_the_memory_is_that_of_the_smallest_gpu(driver):
    driver("echo 81559; echo 24564")
    assert devices.gpu_memory_bytes() == 24564 * 2**20


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'", "true"])
def test_a_driver_that_does_not_tell_the_memory_is_no_error(driver, script):
    driver(script)
    assert devices.gpu_memory_bytes() is None


def test_a_machine_without_the_driver_has_no_gpu_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpu_memory_bytes() is None


def test_a_gpu_gets_larger_batches(monkeypatch):
    monkeypatch.setattr(devices, "gpu_in_sight", lambda: True)
    assert devices.preferred_batch_size() == 256
    monkeypatch.setattr(devices, "gpu_in_sight", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert devices.preferred_batch_size() == 64


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["gpu:7"], "Keras has no device 'gpu:7' on this machine; it has cpu:0"),
        (["cpu:0", "CPU:0 "], "must be distinct and at least one; found cpu:0, cpu:0"),
        ([], "at least one; found none"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(named, message, tiny_keras_file):
    with pytest.raises(BackboneError, match=message):
        load_backbone(tiny_keras_file, preprocessing="torch", devices=named)


def test_openvino_takes_no_devices(tiny_keras_file):
    with pytest.raises(BackboneError, match="leave --devices out, or use --engine keras"):
        load_backbone(tiny_keras_file, preprocessing="torch", devices=["cpu:0"], engine="openvino")
