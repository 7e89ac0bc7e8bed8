"""How every benchmark speaks: one table for people, the same as JSON, and the machine that it ran on."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

__all__ = ["arguments", "describe_machine", "median", "note", "report"]

_PACKAGES = ("featstore", "h5py", "keras", "numpy", "openvino", "pillow", "scikit-learn", "tensorflow")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory and versions."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            text = file.read()
        names = [
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
        ]
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
        wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
        model = (
            f"{names[0] if names else model} ({', '.join(flag for flag in wanted if flag in flags.split())})"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--json", metavar="FILE", help="also write the table and the machine as JSON")
    return parser


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def note(text: str) -> None:
    """Say on stderr what is being measured."""
    print(text, file=sys.stderr, flush=True)


def report(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], *, path: str | None, **facts: Any
) -> None:
    """Print a Markdown table and, where a path is given, write it as JSON with the machine."""
    machine = describe_machine()
    print(f"### {title}\n")
    print(f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB.")
    if facts:
        print("; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items()) + ".")
    print()
    print("| " + " | ".join(header) + " |")
    print("| --- " + "| ---: " * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in row) + " |")
    print(flush=True)
    if path:
        records = [dict(zip(header, row, strict=True)) for row in rows]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"title": title, "machine": machine, **facts, "rows": records}, file, indent=2)
            file.write("\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
