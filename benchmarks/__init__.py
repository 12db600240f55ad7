"""How fast: each fast form beside its readable twin, in one run, as a ratio. `python -m benchmarks` runs them all.

    row.py          what a benchmark returns, and how two ways are timed side by side
    registry.py     name -> benchmark; to add one, write `def rows(options) -> list[Row]` and name it there
    extrapolate.py  what the whole suite would take with models of 360M and 1.3B parameters
    page.py         the table, the JSON file and the pictures
    gpu/            what waits for a GPU: `python -m benchmarks.gpu`

`entropy.py` and `load_released.py` are commands of their own: they measure data and memory.
"""
