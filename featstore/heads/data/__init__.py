"""Images for fitting, choosing and testing heads: splits, folds and blocks of features."""
