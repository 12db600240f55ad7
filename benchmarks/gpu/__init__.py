"""Everything that waits for a GPU, in one command and under nine minutes: `python -m benchmarks.gpu`.

    findings.py   what a part finds, and how a stretch of work is timed on a device
    checks.py     the doctor on every model; CPU and CUDA answers compared; nccl
    kernels.py    fla's and mamba-ssm's kernels against the readable forms
    latency.py    one layer's kernel at 2k to 32k tokens against flash attention, and decoding
    suite.py      the paper's six tasks at 1.3B, in time and memory

Each part runs in a process of its own with a limit of its own: a kernel that fails takes nothing else with it.
"""
