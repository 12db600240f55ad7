"""Where rows come from: the hub, a local mirror, or the samples that ship. Nothing here imports torch."""
