"""Everything of the backbones that imports Keras."""
