"""The content filter: normalisation, phrases, policy, and the gate that every text passes."""
