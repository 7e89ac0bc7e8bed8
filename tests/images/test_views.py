"""What the views of an image are: drawn from its content and their number alone."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import ViewError
from featstore.images.views import MAX_VIEWS, WHOLE, ViewRecipe, checked_n_views

RECIPE = ViewRecipe(flip=True, random_crop=10, random_scale=20, random_brightness=30)
CONTENT = bytes(range(32))

percents = st.floats(0, 1000)
recipes = st.builds(
    ViewRecipe,
    flip=st.just(True),
    random_crop=percents,
    random_scale=percents,
    random_brightness=st.floats(0, 100),
)
contents = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, MAX_VIEWS - 1)


def test_draws_are_what_they_always_were():
    drawn = [RECIPE.draw(CONTENT, view) for view in (0, 1, 2, 65535)]
    for found, expected in zip(
        drawn,
        [
            (0.000000000, 0.000000000, 1.000000000, 1.000000000, False),
            (0.179289396, 0.034949738, 0.798436689, 0.982369567, True),
            (0.050611982, 0.017501566, 0.864999736, 0.951319183, False),
            (0.127441056, 0.044578034, 0.870908493, 1.184905174, True),
        ],
        strict=True,
    ):
        assert tuple(found.__dict__.values()) == pytest.approx(expected)


@given(recipe=recipes, content=contents, view=st.integers(1, MAX_VIEWS - 1))
def test_a_draw_is_what_the_docstring_says(recipe, content, view):
    digest = hashlib.sha512(b"featstore view" + content + view.to_bytes(2, "big")).digest()
    u = [(int.from_bytes(digest[at : at + 8], "big") >> 11) / 2**53 for at in range(0, 32, 8)]
    # TensorFlow's retrain.py: margin_scale times a resize_scale that is uniform in [1, 1 + random_scale / 100].
    size = 1 / ((1 + recipe.random_crop / 100) * (1 + u[0] * recipe.random_scale / 100))
    drawn = recipe.draw(content, view)
    assert drawn.size == pytest.approx(size)
    assert drawn.left == pytest.approx(u[1] * (1 - size))
    assert drawn.top == pytest.approx(u[2] * (1 - size))
    assert drawn.brightness == pytest.approx(1 + (2 * u[3] - 1) * recipe.random_brightness / 100)
    assert drawn.flip == (view % 2 == 1)


@given(recipe=recipes, content=contents, view=numbers)
def test_draws_are_within_their_range(recipe, content, view):
    drawn = recipe.draw(content, view)
    assert 1 / recipe.magnification <= drawn.size * (1 + 1e-12)
    assert drawn.size <= 1
    assert 0 <= drawn.left <= 1 - drawn.size
    assert 0 <= drawn.top <= 1 - drawn.size
    assert abs(drawn.brightness - 1) <= recipe.random_brightness / 100 + 1e-12


@given(content=contents)
def test_view_0_is_the_image_itself(content):
    assert RECIPE.draw(content, 0) == WHOLE


def test_views_of_one_image_and_of_several_differ():
    drawn = {RECIPE.draw(bytes([content]) * 32, view) for content in range(20) for view in range(1, 20)}
    assert len(drawn) == 20 * 19


def test_draws_fill_their_range_evenly():
    drawn = [RECIPE.draw(CONTENT, view) for view in range(1, 4001)]
    for values in (
        [view.left / (1 - view.size) for view in drawn],
        [view.top / (1 - view.size) for view in drawn],
        [(1 / view.size / 1.1 - 1) / 0.2 for view in drawn],
        [(view.brightness - 0.7) / 0.6 for view in drawn],
    ):
        counts = [sum(tenth <= 10 * value < tenth + 1 for value in values) for tenth in range(10)]
        # Six standard deviations of a tenth of 4,000.
        assert all(abs(count - 400) < 114 for count in counts)


@given(recipe=recipes)
def test_a_recipe_is_rebuilt_from_its_dictionary(recipe):
    assert ViewRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_whole_numbers_and_fractions_are_one_recipe():
    assert ViewRecipe(random_crop=10).to_dict() == {"random_crop": 10.0}
    assert ViewRecipe(random_crop=10) == ViewRecipe(random_crop=10.0)


def test_a_recipe_is_reported_in_a_line():
    assert (
        str(ViewRecipe(flip=True, random_crop=10, random_scale=2.5))
        == "flip, random_crop 10%, random_scale 2.5%"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "does nothing: choose flip, or a percentage above 0"),
        ({"random_crop": 0, "flip": False}, "does nothing"),
        ({"flip": "no"}, "flip must be True or False; found 'no'"),
        ({"random_crop": -1}, "random_crop must be a percentage from 0 to 1000; found -1"),
        ({"random_scale": 1001}, "random_scale must be a percentage from 0 to 1000"),
        ({"random_brightness": 101}, "random_brightness must be a percentage from 0 to 100"),
        ({"random_crop": float("nan")}, "found nan"),
        ({"random_crop": 10**400}, "from 0 to 1000; found 1000"),
        ({"random_crop": True}, "found True"),
        ({"random_crop": "10"}, "found '10'"),
    ],
)
def test_an_unfit_recipe_is_refused(fields, message):
    with pytest.raises(ViewError, match=message):
        ViewRecipe(**fields)


@pytest.mark.parametrize("data", [{"flip": True, "twist": 1}, ["flip"], {"flip": 2}])
def test_a_dictionary_that_is_no_recipe_is_refused(data):
    with pytest.raises(ViewError):
        ViewRecipe.from_dict(data)


@pytest.mark.parametrize("view", [-1, MAX_VIEWS])
def test_a_view_has_a_number_of_16_bits(view):
    with pytest.raises(ViewError, match="from 0 to 65535"):
        RECIPE.draw(CONTENT, view)


@pytest.mark.parametrize(
    ("n_views", "recipe", "message"),
    [
        (8, None, "8 views need a recipe that makes them differ.*--flip, --random-crop"),
        (1, RECIPE, r"recipe \(flip, random_crop 10%.*1 view is wanted; ask for 2 or more \(--views\)"),
        (3, ViewRecipe(flip=True), "3 views were requested, but only 2 are distinct.*ask for 2"),
        (0, None, "from 1 to 65,536 views; found 0"),
        (65537, RECIPE, "from 1 to 65,536 views; found 65537"),
        (2.5, RECIPE, "found 2.5"),
    ],
)
def test_a_number_of_views_that_does_not_go_with_the_recipe_is_refused(n_views, recipe, message):
    with pytest.raises(ViewError, match=message):
        checked_n_views(n_views, recipe)


@pytest.mark.parametrize(("n_views", "recipe"), [(1, None), (2, ViewRecipe(flip=True)), (65536, RECIPE)])
def test_numbers_of_views_that_go_with_the_recipe(n_views, recipe):
    assert checked_n_views(n_views, recipe) == n_views
