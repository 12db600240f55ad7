"""Speed: one file for each claim a user would doubt, each fast form beside its readable twin in one run, as a ratio.

    measure.py         what a benchmark returns, and how two ways of doing the same thing are timed side by side
    prefix_linear.py   prefix linear attention against quadratic forms, with identical answers
    mamba_scan.py      the scans of Mamba and Mamba-2 against those of transformers
    reuse.py           many questions on a document that is read once
    processes.py       documents split among several processes
    start.py           the start-up hook, and the way of a run to its first prompt
    gpu.py             what needs a CUDA device: `python -m benchmarks.gpu`

`python -m benchmarks` runs all but the last. To add a benchmark, write `rows(quick) -> list[Row]` in a file of its own
and name it in `BENCHMARKS` of `__main__.py`.
"""
