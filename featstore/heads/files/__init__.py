"""Head files: their format in ``head_file``, and the estimator in them; read without trusting them."""
