"""Every public name shows how it is used."""

import doctest
import inspect

import pytest

import featstore


def public():
    return [name for name in sorted(featstore.__all__) if callable(getattr(featstore, name))]


@pytest.mark.parametrize("name", public())
def test_a_public_name_has_an_example_that_runs(name):
    lines = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(featstore, name)) or "")
    run = [line for line in lines if not line.options.get(doctest.SKIP)]
    assert any(line.want for line in run), f"the docstring of featstore.{name} has no example that runs"
