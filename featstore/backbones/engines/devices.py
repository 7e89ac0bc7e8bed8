"""Detection of GPUs and batch sizes without importing Keras."""

import contextlib
import os
import subprocess

__all__ = ["gpu_in_sight", "gpu_memory_bytes", "preferred_batch_size"]

_GPU_BATCH = 256


def gpu_in_sight() -> bool:
    """Return whether this machine has an NVIDIA GPU, without heavy imports."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and os.path.exists("/proc/driver/nvidia/version")


def gpu_memory_bytes() -> int | None:
    """Return the memory of the smallest NVIDIA GPU, or None without nvidia-smi."""
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return min(int(line) for line in done.stdout.split("\n") if line.strip()) * 2**20
    return None


def preferred_batch_size() -> int:
    """Return the batch size that keeps this machine's device busy."""
    # A processor splits a batch into a few images per core, so its size matters little; a GPU engine
    # splits it where memory is too small.
    if gpu_in_sight():
        return _GPU_BATCH
    return min(_GPU_BATCH, max(32, 16 * (os.cpu_count() or 1)))
