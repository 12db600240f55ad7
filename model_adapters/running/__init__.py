"""From requests to answers. Where to look:

rows            a request becomes a row of token ids, cut to the model's context, with its prefix length M
batching        which rows run together
sharing         what several prompts begin with: where its state is kept, and forked
generation      prompts are read (alone or from a fork) and continued to their answers
decoding        token by token, finished rows leaving the batch
stopping        where an answer stops
loglikelihood   continuations and whole texts are scored
runtime         the model at work: its limits, its prefix policy, its running totals
figures         what rides on an answer, and what a run cost in all
hardware        device, number format, how much fits into a batch

Words: a *start* is what several prompts begin with; a *fork* is a copy of its state for one of them; a *goal* is where
one answer stops; *room* is what a row needs besides its prompt.
"""
