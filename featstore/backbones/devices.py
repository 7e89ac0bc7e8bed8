"""What there is to compute on, as far as it can be told without importing Keras."""

import contextlib
import os
import subprocess

__all__ = ["gpu_in_sight", "gpu_memory_bytes", "preferred_batch_size"]

_GPU_BATCH = 256


def gpu_in_sight() -> bool:
    """Tell whether this machine shows an NVIDIA GPU, without importing anything heavy."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and os.path.exists("/proc/driver/nvidia/version")


def gpu_memory_bytes() -> int | None:
    """Return the memory of the smallest NVIDIA GPU, or None where the driver's own tool does not tell."""
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
    """Return how many images make a batch that keeps this machine's device busy.

    A processor takes a batch apart again, a few images per core, so that its size matters little; a GPU takes
    it apart where its memory is too small for a whole one.
    """
    if gpu_in_sight():
        return _GPU_BATCH
    return min(_GPU_BATCH, max(32, 16 * (os.cpu_count() or 1)))
