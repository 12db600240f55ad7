"""Pictures of what was measured: each a pure function from collected records to figures."""
