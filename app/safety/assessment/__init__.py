"""Measures the filter, and a model behind it, on questions of which is known what should happen to them."""
