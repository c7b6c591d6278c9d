"""Baichuan's official layouts → models in memory, exact in float32, and without remote code."""
