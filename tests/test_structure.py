"""What the structure of the code promises, beside the contracts of import-linter."""

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
