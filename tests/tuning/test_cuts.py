"""Where networks can be cut, and what is chosen."""

import numpy as np
import pytest

import featstore
from featstore.backbones.keras.cuts import NetworkCut, find_cuts
from featstore.backbones.keras.cutting import own_names
from featstore.errors import BackboneError, TuningError
from featstore.tuning import network_cuts
from featstore.tuning.cut_choice import choose_cut
from tuning_material import small_network


@pytest.fixture(scope="module")
def network(keras):
    return small_network(keras)


@pytest.fixture
def tunable(prepared):
    backbone = featstore.load_backbone(prepared / "small.keras", preprocess="tf")
    return backbone.tunable()


def test_all_paths_go_through_a_cut(network):
    layers = [cut.layer for cut in find_cuts(network, own_names(network))]
    assert layers == ["edges", "edges_bn", "edges_relu", "block", "parts", "parts_bn", "parts_relu"]


def test_a_cut_tells_its_shape_and_the_weights_above(network):
    cuts = {cut.layer: cut for cut in find_cuts(network, own_names(network))}
    assert cuts["block"].shape == (16, 16, 8)
    wholes, parts = 12 * 16 + 16, 3 * 3 * 8 * 12 + 12
    assert cuts["parts_relu"].parameters == wholes
    assert cuts["block"].parameters == parts + 2 * 12 + wholes


def test_the_share_of_the_cost_falls_on_the_way_up(network):
    shares = [cut.share for cut in find_cuts(network, own_names(network))]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < shares[0] < 1


def test_a_layer_that_is_used_on_both_sides_forbids_a_cut_between(keras):
    inputs = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    x = keras.layers.ReLU(name="between")(shared(inputs))
    x = keras.layers.Conv2D(4, 3, name="above")(keras.layers.ReLU(name="after")(shared(x)))
    network = keras.Model(inputs, x)
    assert [cut.layer for cut in find_cuts(network, own_names(network))] == ["after"]


def test_frozen_layers_count_as_weights_to_be_trained(keras):
    network = small_network(keras)
    network.trainable = False
    assert find_cuts(network, own_names(network))[0].parameters > 0
    assert not network.get_layer("wholes").trainable


def test_a_cut_inside_a_block_is_refused_by_name_with_those_beside_it(tunable):
    with pytest.raises(BackboneError, match=r"'inside'.*inside a block.*edges_relu or block"):
        tunable.find_cut("inside")


def test_a_layer_with_nothing_above_it_is_refused(tunable):
    with pytest.raises(BackboneError, match=r"'wholes_relu'.*nothing to train.*parts_relu"):
        tunable.find_cut("wholes_relu")


def test_an_unknown_layer_is_refused_with_those_that_are_near(tunable):
    with pytest.raises(BackboneError, match=r"no layer 'blocks'; did you mean block"):
        tunable.find_cut("blocks")


def test_a_formula_has_nothing_to_train():
    with pytest.raises(BackboneError, match="no weights to train"):
        network_cuts("scattering")


def test_auto_takes_the_most_weights_that_cost_at_most_a_tenth():
    def cut(layer, share, parameters, side):
        return NetworkCut(layer=layer, shape=(side, side, 1), share=share, parameters=parameters)

    cuts = [
        cut("low", 0.11, 2000, 4),
        cut("wide", 0.10, 1000, 8),
        cut("narrow", 0.08, 960, 4),
        cut("high", 0.01, 10, 1),
    ]
    assert choose_cut(cuts, "net").layer == "narrow"
    with pytest.raises(TuningError, match="costs at most a tenth"):
        choose_cut(cuts[:1], "net")


def test_the_part_above_a_cut_gives_the_features_of_the_whole(tunable, keras):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    lower = keras.Model(tunable.cut.model.inputs[0], tunable.cut.model.get_layer("block").output)
    maps = lower((pixels / 127.5 - 1).astype(np.float32))
    found = np.asarray(tunable.above("block")(maps, training=False))
    np.testing.assert_allclose(found, np.asarray(tunable.from_pixels()(pixels, training=False)), rtol=1e-5)
