"""What needs a CUDA device, in one command and under nine minutes: `python -m benchmarks.gpu`."""
