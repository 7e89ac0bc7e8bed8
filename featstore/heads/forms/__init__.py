"""What a fitted head comes to: matrices and vectors, and the estimators around them."""
