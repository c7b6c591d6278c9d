"""Tools for people who keep lists of phrases: the gate that entries pass, importers, counts, differences.

Nothing here runs while the server does.
"""
