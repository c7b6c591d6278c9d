"""Messages to token ids, one file a model family."""
