"""The engine process. torch, transformers and bitsandbytes are imported here and nowhere else."""
