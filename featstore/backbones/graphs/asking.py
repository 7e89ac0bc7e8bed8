"""Tasks for the child process that reads files of strangers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from featstore.backbones.engines.openvino import openvino_version
from featstore.backbones.graphs.formats import GraphFile
from featstore.errors import BackboneError
from featstore.process import available_memory

__all__ = ["ask_child"]

_TIMEOUT_S = 1800
# Stacks of threads and the like, which are reserved without being used.
_RESERVED_BYTES = 2**31
_FILE_BYTES_MORE = 2**26
_CHILD = "featstore.backbones.graphs.child"


def ask_child(task: Mapping[str, Any], graph: GraphFile) -> dict[str, Any]:
    """Let a child process do a task; it may crash, and takes no more than the machine has."""
    if openvino_version() is None:
        raise BackboneError(
            f"{graph.path} is run by OpenVINO, which is not installed; run: pip install openvino"
        )
    n_bytes = sum(os.path.getsize(path) for path in graph.files().values())
    free = available_memory()
    limits = {
        "memory_bytes": None if free is None else free + _RESERVED_BYTES,
        "file_bytes": 4 * n_bytes + _FILE_BYTES_MORE,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _CHILD],
            input=json.dumps({**task, **limits}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackboneError(f"{graph.path} could not be read in {_TIMEOUT_S // 60} minutes") from error
    try:
        found = dict(json.loads(done.stdout))
    except (ValueError, TypeError) as error:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        said = done.stderr.strip().rpartition("\n")[2][:200]
        raise BackboneError(
            f"{graph.path} cannot be read: the process that tried ended with {how}{said and f' ({said})'}; "
            "it is damaged, needs more memory than there is, or OpenVINO cannot read it"
        ) from error
    if reason := found.get("error"):
        raise BackboneError(f"{os.path.basename(graph.path)}: {reason}")
    return found
