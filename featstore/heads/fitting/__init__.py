"""From a table of features to a fitted head: choosing parameters, calibrating, scoring."""
