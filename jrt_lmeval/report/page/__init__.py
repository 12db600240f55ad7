"""One HTML page of a report: self-contained, offline, with a browser of the answers."""
