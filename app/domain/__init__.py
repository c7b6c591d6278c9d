"""What Haina talks about: plain values, errors and ports. Standard library only; nothing here does I/O."""
