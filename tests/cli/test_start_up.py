import subprocess
import sys
import time

import pytest


def modules_after(code):
    """Run code in a new process and return the names of the modules that it loaded."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_help_loads_nothing_heavy():
    loaded = modules_after(
        "from featstore_cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert "featstore_cli.main" in loaded
    assert not loaded & {"numpy", "h5py", "PIL", "sklearn", "tensorflow", "keras", "openvino"}


def test_help_comes_at_once():
    def seconds():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "featstore_cli", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    def bare_python():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import click"], check=True, capture_output=True)
        return time.perf_counter() - started

    # A ratio, since the machine may be busy: little more than starting Python and click.
    assert min(seconds() for _ in range(5)) < 4 * min(bare_python() for _ in range(5))


@pytest.mark.parametrize(
    "name",
    [
        *("FeatureStore", "fit", "evaluate", "Head", "HashKFold", "known_backbones", "extract"),
        *("find_duplicates", "find_suspects"),
    ],
)
def test_a_public_name_comes_without_tensorflow(name):
    loaded = modules_after(f"import featstore\nfeatstore.{name}")
    assert "featstore" in loaded
    assert not loaded & {"tensorflow", "keras", "openvino"}
