"""A sequence-classification model beside the language model, or alone: it says how likely each label is for a text."""
