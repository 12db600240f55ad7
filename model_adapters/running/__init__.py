"""From requests to answers.

rows            a request becomes a row of token ids, cut to the model's context, with its prefix length M and the goal
                at which its answer stops
batching        which rows run together, and what their prompts share
generation      prompts are read and continued to their answers
loglikelihood   continuations and whole texts are scored
runtime         the model at work: its limits, its prefix policy, its running totals
figures         what rides on an answer, and what a run cost

A *start* is what several prompts begin with. A *fork* is a copy of its state for one of them.
"""
