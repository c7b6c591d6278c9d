"""Prompt formats, the built-in templates, and the prompt library's files."""
