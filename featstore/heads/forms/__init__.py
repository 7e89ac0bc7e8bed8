"""Forms: fitted classifiers as plain arrays, which predict without scikit-learn."""
