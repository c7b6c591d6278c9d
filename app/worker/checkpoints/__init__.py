"""A model as files: where it lies, what it holds, whether it is whole, and whether it fits this machine."""
