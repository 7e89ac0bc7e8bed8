"""``python -m featstore``: the command line."""

import runpy

if __name__ == "__main__":
    # By its name: the library itself does not know the command line.
    runpy.run_module("featstore_cli", run_name="__main__")
