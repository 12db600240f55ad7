"""From requests to answers.

rows            a request becomes a row of token ids, with where its document ends and where its answer stops
batching        which rows run together, and what their prompts share
generation      prompts are read and continued to their answers
drafts          how far a prefix reaches with `prefix=answer`
runtime         the model at work: its limits, its prefix policy, and what a run cost

A *start* is what several prompts begin with. A *fork* is a copy of its state for one of them.
"""
