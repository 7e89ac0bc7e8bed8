"""What the structure of the code promises, beside the contracts of import-linter."""

import ast
import fnmatch
import tomllib
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def test_no_two_files_import_each_other():
    graph = grimp.build_graph("featstore", "featstore_cli", exclude_type_checking_imports=False)
    names = sorted(graph.modules)
    number = {name: n for n, name in enumerate(names)}
    arrows = [
        (number[name], number[to]) for name in names for to in graph.find_modules_directly_imported_by(name)
    ]
    assert len(arrows) > 500
    start, end = np.array(arrows).T
    matrix = csr_array((np.ones(len(start)), (start, end)), shape=(len(names), len(names)))
    _, circle = connected_components(matrix, directed=True, connection="strong")
    sizes = np.bincount(circle)
    assert [name for name in names if sizes[circle[number[name]]] > 1] == []


def test_the_command_line_imports_public_names_only():
    graph = grimp.build_graph("featstore", "featstore_cli", exclude_type_checking_imports=False)
    private = {
        (name, to)
        for name in graph.find_descendants("featstore_cli")
        for to in graph.find_modules_directly_imported_by(name)
        if to.startswith("featstore.") and to.count(".") > 1
    }
    assert private == set()


def test_every_file_of_a_package_is_in_its_wheel():
    home = Path(__file__).resolve().parents[1]
    settings = tomllib.loads((home / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {}
    for name in settings["packages"]:
        top, _, rest = name.partition(".")
        folders["/".join([settings["package-dir"].get(top, top), *rest.split(".")]).rstrip("/")] = name
    left_out = []
    for top in ("featstore", "cli"):
        for path in sorted((home / top).rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            folder = next(place for place in path.relative_to(home).parents if place.as_posix() in folders)
            name = path.relative_to(home / folder).as_posix()
            patterns = settings["package-data"].get(folders[folder.as_posix()], [])
            is_module = path.suffix == ".py" and "/" not in name
            if not is_module and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                left_out.append(str(path.relative_to(home)))
    assert left_out == []


def test_openvino_is_imported_without_its_telemetry_everywhere():
    """Its converter would report each conversion over the network."""
    found = []
    home = Path(__file__).resolve().parents[1]
    for path in sorted((home / "featstore").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.Module | ast.FunctionDef):
                continue
            own = list(_of_its_own(function))
            modules = [alias.name for one in own if isinstance(one, ast.Import) for alias in one.names]
            modules += [one.module or "" for one in own if isinstance(one, ast.ImportFrom)]
            calls = {
                one.func.id for one in own if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
            }
            if "import_openvino" not in calls:
                found += [f"{path}: {name}" for name in modules if name.partition(".")[0] == "openvino"]
    assert not found, "call import_openvino() before"


def _of_its_own(function):
    """Yield what a function or module consists of, without what stands in a function inside it."""
    waiting = [*ast.iter_child_nodes(function)]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
