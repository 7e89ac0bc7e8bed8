"""Files of models and weights: their layouts, and checks before anything in them is used."""
