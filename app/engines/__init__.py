"""Clients of engines over HTTP, and the scripted engine."""
