"""Arguments and options that several commands share."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import click

from ..printing import note
from .groups import Decorator, option_group

__all__ = [
    "Duration",
    "check_coverage",
    "class_weight_option",
    "corrections_option",
    "coverage_options",
    "csv_option",
    "engine_option",
    "force_option",
    "head_name_option",
    "import_option",
    "jobs_option",
    "json_option",
    "output_option",
    "quiet_option",
    "refuse_given",
    "reject_type",
    "result_options",
    "seed_option",
    "single_name_option",
    "store_argument",
    "store_option",
    "trust_model_option",
    "trust_option",
    "trusted_types",
    "verify_reads_option",
    "wanted_corrections",
    "wants_verified_reads",
    "weights_option",
]

_VERIFY_READS = "featstore.verify_reads"
_TRUSTED = "featstore.trusted"
_CORRECTIONS = "featstore.corrections"
_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600}


def _keep_verify_reads(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta[_VERIFY_READS] = value


def wants_verified_reads() -> bool:
    """Return whether the running command was given --verify-reads."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_VERIFY_READS, False))


def _keep_trusted(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    # A class of one's own may be in the current folder; only then that is looked into, and after all else.
    if any(not _is_installed(name) for name in value):
        _look_here()
    ctx.meta[_TRUSTED] = value


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def trusted_types() -> tuple[str, ...]:
    """Return the types that the running command was given with --trust."""
    context = click.get_current_context(silent=True)
    return () if context is None else context.meta.get(_TRUSTED, ())


def _keep_corrections(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    ctx.meta[_CORRECTIONS] = value


def wanted_corrections() -> str | None:
    """Return the file that the running command was given with --corrections."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_CORRECTIONS)


# Of the tables that a command opens.
corrections_option = click.option(
    "--corrections",
    metavar="FILE",
    type=click.Path(),
    expose_value=False,
    callback=_keep_corrections,
    help="Apply these corrections of labels, which `featstore review` has written.",
)


class Duration(click.ParamType[float]):
    """``500ms``, ``60s``, ``5m`` or ``1.5h``; without a unit, seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *(ms|s|m|min|h|)", str(value).strip())
        seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if not seconds:
            self.fail(f"{value!r} is no time above 0, such as 60s, 5m or 1h", param, ctx)
        return seconds


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Hide the progress bar.")
force_option = click.option("--force", is_flag=True, help="Overwrite existing files.")
verify_reads_option = click.option(
    "--verify-reads",
    is_flag=True,
    expose_value=False,
    callback=_keep_verify_reads,
    help="Verify the checksum of every row before it is used.",
)


def result_options(*outputs: Decorator) -> Decorator:
    """Return options of what a command writes, with --force, and --verify-reads, --quiet and --json."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (json_option, quiet_option, verify_reads_option):
            command = option(command)
        return option_group("Output", *outputs, force_option)(command)

    return add


store_argument = click.argument("store", required=False, type=click.Path())


def store_option(text: str, *, default: str) -> Decorator:
    """Return the option ``--store``."""
    return click.option("--store", type=click.Path(), help=f"{text}  [default: {default}]")


def single_name_option(name: str, text: str) -> Decorator:
    """Return an option that takes one name, and refuses to be repeated as those are that take several."""
    return click.option(name, metavar="NAME", multiple=True, callback=_only_one, help=text)


def _only_one(_ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str | None:
    if len(value) > 1:
        raise click.UsageError(
            f"{param.opts[0]} is given {len(value)} times, and this command takes one: {', '.join(value)}"
        )
    return value[0] if value else None


def output_option(text: str, *, default: str | None = None) -> Decorator:
    """Return the option ``--output``, for a head."""
    return click.option("--output", "-o", metavar="NAME|FILE.head", help=text, default=default)


head_name_option = click.option(
    "--head",
    default="logistic",
    metavar="NAME",
    help="Classifier, one of `featstore heads`.",
)
class_weight_option = click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Weight classes inversely to their number of images.",
)
seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Random seed.")
jobs_option = click.option("--jobs", type=click.IntRange(min=1), default=1, help="Number of parallel fits.")
csv_option = click.option(
    "--csv", "csv_file", metavar="FILE", type=click.Path(), help="Also write the result to a CSV file."
)
reject_type = click.FloatRange(min=0, max=1, max_open=True)


def coverage_options(text: str) -> tuple[Decorator, Decorator]:
    """Return the options ``--coverage`` and ``--by-class``."""
    return (
        click.option(
            "--coverage",
            metavar="P",
            type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
            help=f"{text} with this probability (conformal prediction).",
        ),
        click.option(
            "--by-class",
            is_flag=True,
            help="With --coverage, for the images of each class, not just over all.",
        ),
    )


def check_coverage(coverage: float | None, *, by_class: bool) -> None:
    """Refuse --by-class alone."""
    if by_class and coverage is None:
        raise click.UsageError("--by-class is for --coverage: add, for example, --coverage 0.95")


trust_option = click.option(
    "--trust",
    metavar="TYPE",
    multiple=True,
    expose_value=False,
    callback=_keep_trusted,
    help="Load a head whose classifier holds this type (module.Class), which cannot be validated: only if "
    "you trust its code and the author of the file; repeat for several.",
)
trust_model_option = click.option(
    "--trust-model",
    is_flag=True,
    help="Allow your own Keras model to run the code it contains, such as Lambda layers.",
)


def _import_from_here(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if value:
        _look_here()
    return value


def _look_here() -> None:
    # After all that is installed: a file of the current folder never takes the place of that.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


import_option = click.option(
    "--import",
    "imports",
    metavar="MODULE",
    multiple=True,
    callback=_import_from_here,
    help="Import (and so run) this Python module, which defines custom layers of your own Keras model.",
)

# Of an existing head; the library takes several for a head on several backbones.
weights_option = click.option(
    "--weights",
    type=click.Path(),
    multiple=True,
    callback=lambda _ctx, _param, value: value or None,
    help="The backbone's weights file, if it has moved. For a head on several spaces, repeat it once per "
    "space, in order; a single file serves all spaces with these weights.",
)


class _Engine(click.Choice[str]):
    """What runs a network; ``tensorflow`` is the old word for ``keras``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "tensorflow":
            note("--engine tensorflow is called --engine keras now")
            value = "keras"
        return super().convert(value, param, ctx)


engine_option = click.option(
    "--engine",
    type=_Engine(["auto", "openvino", "keras", "onnxruntime"]),
    default="auto",
    help="Runtime of the forward pass; auto is Keras on a GPU, else OpenVINO. ONNX models can run by "
    "onnxruntime, which has GPUs too.",
)


def refuse_given(options: Mapping[str, Any], reason: str, purpose: str) -> None:
    """Refuse those options that were given, which are for another kind of labels."""
    if names := [f"--{name.replace('_', '-')}" for name, value in options.items() if value]:
        given = " and ".join(names).replace("--auto", "--head auto")
        verb = "is" if len(names) == 1 else "are"
        raise click.UsageError(f"{reason}, and {given} {verb} for {purpose}: leave it out")
