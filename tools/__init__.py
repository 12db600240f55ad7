"""Makes the rows that ship with the package, the same every time. Nothing in the package imports this."""
